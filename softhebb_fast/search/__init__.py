"""A search over layers and their starts, by optuna (``pip install softhebb_fast[search]``)."""
