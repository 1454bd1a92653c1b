"""The SoftHebb fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.checks import check_linear
from softhebb_fast.functional import SoftHebbOutput, Step
from softhebb_fast.init import Init
from softhebb_fast.nn.layer import HebbianLayer, check_sizes
from softhebb_fast.nn.recording import recorded
from softhebb_fast.options import COMPETITION, Competition
from softhebb_fast.reference import lebesgue_weight


class SoftHebbLinear(HebbianLayer):
    """A fully connected layer that learns by soft winner-take-all Hebbian plasticity.

    Input ``[..., N]``, output u ``[..., K]``; ``weight`` is ``[K, N]``. Every leading dimension
    counts as batch; ``[N]`` is a batch of one.

    Args:
        in_features: N.
        out_features: K, the competing neurons.

    All other arguments (``t_invert``, ``wta``, ``bias``, ``init``, ``radius``, ``lr``,
    ``lr_power``, ``schedule``, ``update``, ``rounding``, ``backend``, ``device``, ``dtype``,
    ``delta``, ``rank``, ``lebesgue_p``, ``tie_rule``, ``generator``) mean what they mean in
    ``SoftHebbConv2d``.

    Source: Journé et al. 2023 (arXiv 2209.11883); Moraitis et al. 2022 (SoftHebb, eq. 5).
    """

    r1_tolerance: float = 5e-3
    bias_rate: float = 1.0
    in_features: int
    out_features: int

    def __init__(
        self,
        in_features: int,
        out_features: int,
        t_invert: float = COMPETITION.t_invert,
        *,
        wta: str = COMPETITION.wta,
        bias: bool = False,
        init: Init = "normal",
        radius: float = 25.0,
        lr: float | None = None,
        lr_power: float = 0.5,
        schedule: Callable[[int], float] | None = None,
        update: str = "grad",
        rounding: str = "nearest",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        delta: float = COMPETITION.delta,
        rank: int = COMPETITION.rank,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        in_features, out_features = check_sizes(in_features=in_features, out_features=out_features)
        super().__init__(
            (out_features, in_features),
            out_features,
            Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule),
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=lr_power,
            schedule=schedule,
            update=update,
            rounding=rounding,
            backend=backend,
            generator=generator,
            device=device,
            dtype=dtype,
        )
        self.in_features, self.out_features = in_features, out_features

    def _hebbian(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **given: Any
    ) -> SoftHebbOutput:
        return functional.softhebb_linear(x, weight, bias, **{**self.options(), **given})

    def _hebbian_step_(self, x: Tensor, weight: Tensor, bias: Tensor | None, **known: Any) -> Step:
        options = {**self.options(), **known, "lr": self.base_rate(), "lr_power": self.lr_power}
        return functional.softhebb_linear_step_(x, weight, bias, **options)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not recorded(x):
            check_linear(x, weight, bias)
        return F.linear(x, lebesgue_weight(weight, self.lebesgue_p), bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._options()}"
