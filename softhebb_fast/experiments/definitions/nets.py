"""The runs that several experiments share, so that each is made once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from softhebb_fast.experiments.cell import Cell
from softhebb_fast.presets import Layer, Preset, format_network

FORK = {"name": "zerO", "scale": "fork"}
CIFAR_NET = "4SoftHebbCnnCIFAR"
ZERO_NET_2, ZERO_NET_4 = "2SoftHebbZerOMNIST", "4SoftHebbCnnZerOMNIST"
SOLVED = {"classifier": "ridge"}
INITS: dict[str, Any] = {"normal": None, "zero": FORK, "binary": "random_binary"}


def written(*layers: Layer) -> str:
    """The network of these layers as layer strings, which is how a run has one without a name."""
    return format_network(Preset("written", layers))


def deep(dataset: str, init: str) -> tuple[str, dict[str, Any]]:
    """Name and run of the three-layer network on ``dataset``, with an init of `INITS`."""
    run = {"preset": CIFAR_NET, "dataset": dataset}
    if INITS[init] is not None:
        run["init"] = INITS[init]
    return f"{dataset}-3-{init}", run


def tuned(preset: str, **factors: float) -> dict[str, Any]:
    """The run of a network tuned for ZerO on MNIST."""
    return {"preset": preset, "dataset": "mnist", "init": FORK, **factors}


def pixels(dataset: str, prefix: str = "", **place: str) -> Cell:
    """The classifier on the pixels themselves, by the protocol of the networks' classifiers."""
    run = {"preset": "Linear", "dataset": dataset}
    return Cell(f"{dataset}-pixels", f"{prefix}linear classifier on the pixels", run, **place)


def untrained(name: str, label: str, run: dict[str, Any], **place: str) -> Cell:
    """The network of ``run`` with layers that stay as they start, below the same classifier."""
    return Cell(name, label, {**run, "unsup_epochs": 0}, **place)


def deep_untrained(dataset: str, label: str, **place: str) -> Cell:
    """The three-layer network with random filters."""
    name = "cifar10-3-random" if dataset == "cifar10" else f"{dataset}-3-untrained"
    return untrained(name, label, deep(dataset, "normal")[1], **place)


def with_halvings(cell: Cell) -> Cell:
    """The same with CIFAR-10's classifier: of ten epochs, none at a halved rate, the last is
    one more draw from a range of half a point."""
    longer = {"probe_epochs": 50, "probe_batch": 64}
    label = f"{cell.label}, classifier as on CIFAR-10"
    return replace(cell, name=f"{cell.name}-halvings", label=label, run={**cell.run, **longer})


def as_on_cifar10(cell: Cell) -> Cell:
    """The same with CIFAR-10's batches of ten images for the Hebbian layers, and its classifier."""
    longer = with_halvings(cell)
    label = f"{cell.label}, all as on CIFAR-10"
    return replace(
        longer, name=f"{cell.name}-cifar10", label=label, run={**longer.run, "unsup_batch": 10}
    )


def pooled_by_maximum(layer: Layer) -> Layer:
    """The same layer with the same windows, pooled by their maximum."""
    return replace(layer, pool=replace(layer.pool, kind="max"))
