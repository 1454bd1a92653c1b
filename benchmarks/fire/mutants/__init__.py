"""One line is changed at a time; a test must notice."""
