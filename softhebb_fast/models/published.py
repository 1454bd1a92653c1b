"""State dicts of the published SoftHebb code, in the names of this package's networks."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from softhebb_fast import sealed
from softhebb_fast.models.softhebb import SoftHebbNet


@torch.no_grad()
def load_published(
    model: SoftHebbNet, state: Mapping[str, Any] | str | PathLike[str]
) -> SoftHebbNet:
    """Copy a published checkpoint into ``model``, which has its preset's layers; returns it.

    Keys are those of the full code (``blocks.0.layer.weight``, ``blocks.0.operations.0.*`` for a
    batch norm, the classifier as the last block) or of its example (``bn1.*``, ``conv1.weight``,
    ``classifier.*``). Every key has to find its place, and every tensor of the model a key.

    Args:
        model: from ``models.build``, for the images and classes of the checkpoint.
        state: a state dict, a checkpoint that holds one as ``"state_dict"``, or the path of one.

    Raises:
        TypeError: ``model`` or ``state`` of another kind.
        ValueError: keys that are missing or too many, or tensors of another shape, all named; a
            file that is damaged. The model is then as it was.
    """
    if not isinstance(model, SoftHebbNet):
        raise TypeError(f"model must be a network of models.build; got {type(model).__name__}")
    state = _state_dict(state)
    example = "conv1.weight" in state
    places = dict(_places(model, example))
    wrong = []
    if missing := [key for key in places if key not in state]:
        wrong.append(f"it lacks {', '.join(missing)}")
    if unexpected := [str(key) for key in state if key not in places]:
        wrong.append(f"it has {', '.join(unexpected)} besides")
    for key, place in places.items():
        shape = getattr(state.get(key), "shape", None)
        if key in state and shape != place.shape:
            came = "no tensor" if shape is None else tuple(shape)
            wrong.append(f"{key} must be {tuple(place.shape)}, got {came}")
    if wrong:
        raise ValueError(f"state must be of {model.preset.name}: {'; '.join(wrong)}")
    for key, place in places.items():
        place.copy_(state[key])
    return model


def _places(model: SoftHebbNet, example: bool) -> Iterator[tuple[str, Tensor]]:
    """Published keys, and the tensors of ``model`` that they stand for."""
    for i, block in enumerate(model.blocks):
        norms = [] if block.norm is None else block.norm.modules()
        for norm in norms:
            if isinstance(norm, nn.BatchNorm2d):
                yield from _named(f"bn{i + 1}" if example else f"blocks.{i}.operations.0", norm)
        yield from _named(f"conv{i + 1}" if example else f"blocks.{i}.layer", block.layer)
    last = "classifier" if example else f"blocks.{len(model.blocks)}.layer"
    yield from _named(last, model.head[-1])


def _named(prefix: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield f"{prefix}.{name}", tensor


def _state_dict(state: Mapping[str, Any] | str | PathLike[str]) -> dict[str, Any]:
    if isinstance(state, (str, PathLike)):
        # The published configurations hold NumPy's floats, under names that changed.
        scalar = np.float64(0).__reduce__()[0]
        known = [np.dtype, type(np.dtype(np.float64))]
        known += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
        with open(state, "rb") as file, torch.serialization.safe_globals(known):
            try:
                if zipfile.is_zipfile(file):  # else of torch before 1.6, without check sums
                    sealed.check_zip(file)
                file.seek(0)
                state = torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:  # a damaged file can fail in any way
                raise ValueError(
                    f"{os.fspath(state)} cannot be read as a checkpoint ({type(error).__name__}: "
                    f"{str(error).partition('.')[0]}); get it again"
                ) from error
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a state dict or a path; got {type(state).__name__}")
    state = state.get("state_dict", state)
    if all(str(key).startswith("module.") for key in state):  # as DataParallel saves it
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)
