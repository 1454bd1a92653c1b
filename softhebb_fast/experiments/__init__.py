"""The published tables and figures as experiments to be run again, and this project's own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions import (
    breakers,
    cifar100,
    collapse,
    constnet,
    figure1,
    figure2,
    record,
    rules,
    schicho,
    softhebb,
    symmetry,
    table1,
    table2,
    table5,
    zero,
)
from softhebb_fast.naming import did_you_mean

__all__ = ["EXPERIMENTS", "Cell", "Experiment", "get_experiment"]

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        module.EXPERIMENT.name: module.EXPERIMENT
        for module in (
            *(table1, table2, figure1, table5, figure2, softhebb, collapse, breakers),
            *(schicho, zero, constnet, symmetry, rules, record, cifar100),
        )
    }
)


def get_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError for another, with the names there are."""
    if name not in EXPERIMENTS:
        hint = did_you_mean(name, EXPERIMENTS)
        raise ValueError(f"name must be one of {', '.join(EXPERIMENTS)}; got {name!r}{hint}")
    return EXPERIMENTS[name]
