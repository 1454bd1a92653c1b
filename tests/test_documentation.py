"""help() names every argument, and signatures show real ones."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import softhebb_fast

ROOMS = ("data", "functional", "init", "models", "nn", "optim", "presets", "pretrained", "training")


def public() -> Iterator[tuple[str, Any]]:
    """Every public class and function by its full name."""
    for room in ROOMS:
        module = importlib.import_module(f"softhebb_fast.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                yield f"{room}.{name}", thing


PUBLIC = dict(public())


def documented(name: str) -> str:
    """What help() says of it, and what its room says of shared arguments, if that is ``init``."""
    room = softhebb_fast.init.__doc__ if name.startswith("init.") else ""
    return f"{inspect.getdoc(PUBLIC[name]) or ''} {room}"


def arguments(thing: Any) -> list[inspect.Parameter]:
    parameters = inspect.signature(thing).parameters.values()
    return [p for p in parameters if p.name not in ("self", "args", "kwargs")]


def says(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


@pytest.mark.parametrize("name", PUBLIC)
def test_help_names_every_argument(name):
    thing = PUBLIC[name]
    assert inspect.getdoc(thing), f"{name} has no docstring"
    missing = [p.name for p in arguments(thing) if not says(documented(name), p.name)]
    assert not missing, f"the docstring of {name} does not name {', '.join(missing)}"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_methods_name_their_arguments(name):
    thing = PUBLIC[name]
    if not inspect.isclass(thing):
        return
    for key, method in vars(thing).items():
        if key.startswith("_") or not inspect.isfunction(method):
            continue
        where, text = f"{name}.{key}", inspect.getdoc(getattr(thing, key)) or ""
        missing = [p.name for p in arguments(method) if not says(text, p.name)]
        assert not missing or key in ("forward", "extra_repr"), f"{where} does not name {missing}"


OPEN = {"nn.convert", "models.network", "training.Trainer", "training.begin", "training.resume"}
OPEN |= {"data.as_image_set", "data.from_dataset", "data.load_pair"}


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_show_real_names(name):
    kinds = {p.kind for p in arguments(PUBLIC[name])}
    hidden = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    assert not kinds & hidden or name in OPEN


def test_layers_share_their_arguments():
    layers = softhebb_fast.SoftHebbConv1d, softhebb_fast.SoftHebbBlock
    whole = {p.name: p.default for p in arguments(softhebb_fast.SoftHebbConv2d)}
    for layer in layers:
        own = {p.name: p.default for p in arguments(layer)}
        assert whole.items() <= own.items()
    linear = {p.name: p.default for p in arguments(softhebb_fast.SoftHebbLinear)}
    shared = linear.keys() - {"in_features", "out_features"}
    assert all(whole[name] == linear[name] for name in shared)


def test_rooms_are_there_without_an_import_of_their_own():
    for room in softhebb_fast.ROOMS:
        assert room in dir(softhebb_fast)
        assert getattr(softhebb_fast, room).__name__ == f"softhebb_fast.{room}"
    with pytest.raises(AttributeError, match="no attribute 'rooms'"):
        _ = softhebb_fast.rooms
