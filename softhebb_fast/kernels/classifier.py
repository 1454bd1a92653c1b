"""The linear classifier: a step of cross-entropy descent by Adam in two launches, and its test.

Features are rows of memory, of several members at once: networks that train side by side, each with
an order, a mask and weights of its own. Nothing comes from the host but the number of a step in its
graph: ``clock`` holds the steps done and the row of ``order`` where the next one begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kernels import configs, launch
from softhebb_fast.kernels.adam import descend_kernel
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.cross_entropy import classify_kernel, judge_kernel

LEVELS = 1 << 16  # of the probability of dropout
BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam
MOST_CLASSES = 128
SHARED = {"rate", "corrections", "clock"}  # by all members


class Kernels(NamedTuple):
    """Configurations of a step's two kernels and of the test, and the precision of the second.

    Products of the others are ``tf32x3``. Without matrix units a tile of few classes waits for
    shared memory, but for the sum over rows that ``descend`` makes.
    """

    classify: Config
    descend: Config
    judge: Config
    descent: str = "tf32x3"


CONFIGS = {  # by the classes that a tile holds
    16: Kernels(
        Config(32, 16, 32, 2, 1), Config(64, 16, 128, 4, 1), Config(32, 16, 64, 2, 3), "ieee"
    ),
    32: Kernels(
        Config(16, 32, 32, 2, 1), Config(64, 32, 64, 4, 1), Config(32, 32, 32, 4, 3), "ieee"
    ),
    64: Kernels(Config(16, 64, 32, 4, 1), Config(64, 64, 64, 4, 1), Config(32, 64, 32, 4, 3)),
    128: Kernels(Config(16, 128, 32, 4, 1), Config(64, 128, 64, 8, 1), Config(32, 128, 32, 4, 3)),
}


class State(NamedTuple):
    """E classifiers in the course of their training, and the room that a step needs.

    ``weight [E, CLASSES, F]`` and ``bias [E, CLASSES]`` with Adam's running means and mean squares;
    ``rate`` and ``corrections [STEPS, 2]``; ``clock``, steps done and the row of the order; ``seeds
    [E]`` of the masks; ``totals [E, GROUPS, 2]``, loss and correct answers since they were cleared.
    """

    weight: Tensor
    weight_mean: Tensor
    weight_square: Tensor
    bias: Tensor
    bias_mean: Tensor
    bias_square: Tensor
    rate: Tensor
    corrections: Tensor
    clock: Tensor
    seeds: Tensor
    totals: Tensor
    kept: Tensor | None
    parts: Tensor
    gradient: Tensor
    split_counters: Tensor


def new_state(
    weight: Tensor, bias: Tensor, seeds: Tensor, batch: int, steps: int, dropout: float
) -> State:
    """The state before the first of ``steps`` steps in batches of ``batch`` rows.

    ``weight [E, CLASSES, F]`` and ``bias [E, CLASSES]`` float32 are changed in place.
    """
    members, classes, features = weight.shape
    forward = _kernels(classes).classify
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    corrections = torch.stack([1 / (1 - BETAS[0] ** t), (1 - BETAS[1] ** t) ** -0.5], dim=1)
    groups = -(-batch // forward.BM)

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=weight.device)

    return State(
        weight,
        torch.zeros_like(weight),
        torch.zeros_like(weight),
        bias,
        torch.zeros_like(bias),
        torch.zeros_like(bias),
        rate=new(1),
        corrections=corrections.to(weight.device, torch.float32),
        clock=new(2, dtype=torch.int32),
        seeds=seeds.to(weight.device, torch.int64),
        totals=new(members, groups, 2, dtype=torch.float64),
        kept=new(members, batch, features, dtype=torch.int8) if dropout else None,
        parts=new(members, _chunks(features, forward), batch, forward.BN),
        gradient=new(members, batch, forward.BN),
        split_counters=new(members, groups, dtype=torch.int32),
    )


def joined(states: Sequence[State]) -> State:
    """The members of several states as those of one, after equally many steps."""

    def beside(name: str, parts: tuple[Tensor | None, ...]) -> Tensor | None:
        return parts[0] if name in SHARED or parts[0] is None else torch.cat(parts)

    return State(*map(beside, State._fields, zip(*states, strict=True)))


def member(state: State, i: int) -> State:
    """The part of the ``i``-th member: views of ``state``."""

    def own(name: str, whole: Tensor | None) -> Tensor | None:
        return whole if name in SHARED or whole is None else whole[i : i + 1]

    return State(*map(own, State._fields, state))


def step(
    state: State,
    x: Tensor,
    order: Tensor,
    labels: Tensor,
    number: int,
    first: int,
    rows: int,
    p: float,
) -> None:
    """One step, the ``number``-th from ``clock`` on: ``rows`` rows of the order from ``first`` on.

    ``x [E, N, F]`` in any float dtype, the features of a row contiguous; ``order [E, N]`` and
    ``labels [N]`` int64.
    """
    members, classes, features = state.weight.shape
    n, dropped = x.shape[1], round(p * LEVELS)
    chosen = _kernels(classes)
    forward, update = chosen.classify, chosen.descend
    chunks = _chunks(features, forward)
    common = {"x": x, "order": order, "kept": state.kept, "clock": state.clock, "N": n}
    common |= {"MEMBER": x.stride(0), "LINE": x.stride(1), "ROWS": rows, "STEP": number}
    common |= {"FIRST": first, "dropped": dropped}
    launch.launch(
        classify_kernel,
        (chunks, -(-rows // forward.BM), members),
        forward,
        **common,
        labels=labels,
        w=state.weight,
        bias=state.bias,
        seeds=state.seeds,
        parts=state.parts,
        gradient=state.gradient,
        totals=state.totals,
        split_counters=state.split_counters,
        CHUNKS=chunks,
        GROUPS=state.totals.shape[1],
        **_constants(state.weight, forward),
    )
    launch.launch(
        descend_kernel,
        (-(-features // update.BP), members),
        update,
        **common,
        gradient=state.gradient,
        w=state.weight,
        w_mean=state.weight_mean,
        w_square=state.weight_square,
        bias=state.bias,
        bias_mean=state.bias_mean,
        bias_square=state.bias_square,
        corrections=state.corrections,
        rate=state.rate,
        beta1=BETAS[0],
        beta2=BETAS[1],
        eps=EPS,
        **_constants(state.weight, update, chosen.descent),
    )


def judge(weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """Summed loss and correct answers on ``x [E, N, F]``, float64 ``[E, 2]``."""
    members, classes, _ = weight.shape
    config = _kernels(classes).judge
    groups = -(-x.shape[1] // config.BM)
    found = torch.empty((members, groups, 2), dtype=torch.float64, device=x.device)
    launch.launch(
        judge_kernel,
        (groups, members),
        config,
        x=x,
        labels=labels,
        w=weight,
        bias=bias,
        found=found,
        MEMBER=x.stride(0),
        LINE=x.stride(1),
        N=x.shape[1],
        **_constants(weight, config),
    )
    return found.sum(dim=1)


def _kernels(classes: int) -> Kernels:
    return next(found for wide, found in CONFIGS.items() if classes <= wide)


def _constants(weight: Tensor, c: Config, precision: str = "tf32x3") -> dict[str, object]:
    _, classes, features = weight.shape
    if not configs.architecture(weight.device):
        precision = "ieee"  # AMD's matrix units take float32
    tile = {"BB": c.BM, "BC": c.BN, "BF": c.BP}
    return {"F": features, "CLASSES": classes, "PRECISION": precision, **tile}


def _chunks(features: int, c: Config) -> int:
    return -(-features // (8 * c.BP))
