"""Faults tried by the thousand: ``make fire``."""
