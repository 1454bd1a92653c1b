"""How pictures look: of filters, of runs, of results."""
