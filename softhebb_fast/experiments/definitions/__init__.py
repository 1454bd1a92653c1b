"""The experiments themselves: each a table or a figure, as cells."""
