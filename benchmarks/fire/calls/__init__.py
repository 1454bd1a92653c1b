"""Calls with arguments of all kinds, and the bound of every number that they give."""
