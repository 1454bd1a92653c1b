"""Layers that learn by any rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.checks import output_size
from softhebb_fast.functional import HebbianOutput, HebbianStep
from softhebb_fast.functional.hebbian import in_rows
from softhebb_fast.init import Init
from softhebb_fast.nn.conv import SoftHebbConv1d, SoftHebbConv2d
from softhebb_fast.nn.linear import SoftHebbLinear
from softhebb_fast.nn.plasticity import (
    OwnCompetition,
    Plastic,
    Plasticity,
    of_rule,
    usual_power,
)
from softhebb_fast.nn.recording import recorded
from softhebb_fast.options import COMPETITION, CONVOLUTION, Rule, padded_sides


class _Convolution(Plastic):
    """What the convolutions of any rule share."""

    def positions(self, x: Tensor) -> int:
        """How many positions u of ``x`` has, over all samples."""
        geometry = self.kernel_size, self.stride, self.dilation
        sides = padded_sides(self.padding, *geometry)
        size = [n + a + b for n, a, b in zip(x.shape[-2:], *sides, strict=True)]
        rows, columns = output_size(
            tuple(size), self.kernel_size, self.stride, (0, 0), self.dilation
        )
        return x.shape[:-3].numel() * rows * columns

    def _hebbian(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **given: Any
    ) -> HebbianOutput:
        return functional.hebbian_conv2d(x, weight, bias, **{**self.options(), **given})

    def _hebbian_step_(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **known: Any
    ) -> HebbianStep:
        rate = {"lr": self.base_rate(), "lr_power": self.lr_power, **self.step_options()}
        return functional.hebbian_conv2d_step_(
            x, weight, bias, **{**self.options(), **known}, **rate
        )


class HebbianConv2d(_Convolution, SoftHebbConv2d):
    """A convolution that learns by any rule: ``SoftHebbConv2d`` is the case ``"softhebb"``.

    What it computes and how it is used are as there: u in both modes, ``weight.grad`` or a step in
    place in training mode. ``layer(x, target=..., modulator=...)`` gives a batch its labels and a
    third factor; see ``functional.hebbian_conv2d``, also for what every rule learns.

    The state of a rule is in buffers, and so in ``state_dict``; it moves with every update, in the
    dtype of the sums. Optimizers do not see it.

    Args:
        rule: ``"softhebb"``, ``"krotov"``, ``"instar"``, ``"kmeans"``, ``"hebb"``, ``"oja"``,
            ``"sanger"``, ``"bcm"``, ``"teacher"``, ``"delta_rule"``, ``"similarity"``,
            ``"nonnegative_similarity"``, or an ``options.Rule``. Or a competition of your own, a
            function that makes y of u, both ``[B, K, OH, OW]`` (``[..., K]`` of a linear layer,
            ``[B, K, 1, OL]`` of a sequence): what is learned is SoftHebb's with this y, by the
            reference, so at its speed; kernels are refused as ``backend``. u and y are computed
            once more than elsewhere.
        normalise: ``"max"``, ``"mean"``, ``"none"`` or ``"count"``; the rule's own if not given.
            ``"count"`` divides the update of a neuron by all that it has learned from, in the
            buffer ``counts``; with ``lr=1`` weights are then means.
        decay: so much of the weights is lost for every position, before D is normalised.
        unit_norm: weights are scaled to Lebesgue norm 1 after every step in place.
        neuron_rates: ``[K]``, a factor of every neuron's rate, such as a mask of plasticity. A
            buffer.
        conscience: in the units of u, for ``"instar"`` and ``"kmeans"``: a neuron competes with
            ``u - conscience (n share - 1)``, its share of the wins of n neurons in the buffer
            ``shares``. Source: DeSieno 1988.
        momentum: how far the state moves at every update: the ``threshold`` of ``"bcm"`` to the
            batch's mean of u^2; ``lateral`` M of the similarities by
            ``momentum (S - diag(S) M) / max diag(S)`` with S the sums of y y^T, its diagonal 0;
            ``shares`` to the batch's.
        wta, delta, rank: of the competition, where the rule has one; the rule's own if not given.
        lr_power: exponent of the rate by norm; if not given 0.5 for ``"softhebb"``, else 0, a
            constant rate.

    All other arguments are those of ``SoftHebbConv2d``: ``in_channels``, ``out_channels``,
    ``kernel_size``, ``stride``, ``padding``, ``dilation``, ``groups``, ``t_invert``,
    ``padding_mode``, ``bias``, ``init``, ``radius``, ``lr``, ``schedule``, ``update``,
    ``rounding``, ``backend``, ``device``, ``dtype``, ``pre_triangle``, ``lebesgue_p``,
    ``tie_rule``, ``generator``. A bias learns in soft competitions alone.

    Raises ValueError and TypeError for arguments and inputs that do not fit, naming them.

    Sources: those of ``softhebb_fast.reference.rules``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        t_invert: float = COMPETITION.t_invert,
        *,
        rule: str | Rule | OwnCompetition = "softhebb",
        normalise: str | None = None,
        decay: float = 0.0,
        unit_norm: bool = False,
        neuron_rates: Tensor | None = None,
        conscience: float = 0.0,
        momentum: float = 0.1,
        padding_mode: str = CONVOLUTION.padding_mode,
        wta: str | None = None,
        bias: bool = False,
        init: Init = "normal",
        radius: float = 25.0,
        lr: float | None = None,
        lr_power: float | None = None,
        schedule: Callable[[int], float] | None = None,
        update: str = "grad",
        rounding: str = "nearest",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        delta: float | None = None,
        rank: int | None = None,
        pre_triangle: bool = CONVOLUTION.pre_triangle,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        own = of_rule(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
        plasticity = Plasticity.of(
            rule, normalise, decay, unit_norm, conscience, momentum, update, own["wta"]
        )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            t_invert,
            padding_mode=padding_mode,
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=usual_power(rule, lr_power),
            schedule=schedule,
            update=update,
            rounding=rounding,
            backend=backend,
            device=device,
            dtype=dtype,
            pre_triangle=pre_triangle,
            lebesgue_p=lebesgue_p,
            tie_rule=tie_rule,
            generator=generator,
            **own,
        )
        self.begin(plasticity, neuron_rates, self.group_size)


class HebbianConv1d(_Convolution, SoftHebbConv1d):
    """``HebbianConv2d`` on sequences: input ``[B, C, L]`` or ``[C, L]``, output u ``[B, K, OL]``.

    ``weight`` is ``[K, C / groups, 1, S]``, a modulator ``[B]`` or ``[B, 1, OL]``, a target
    ``[B, K, OL]``, ``[B, K]`` or class indices ``[B]``. ``in_channels``, ``out_channels``,
    ``kernel_size``, ``stride``, ``padding`` and ``dilation`` are those of ``SoftHebbConv1d``, all
    other arguments (``groups``, ``t_invert``, ``rule``, ``normalise``, ``decay``, ``unit_norm``,
    ``neuron_rates``, ``conscience``, ``momentum``,
    ``padding_mode``, ``wta``, ``bias``, ``init``, ``radius``, ``lr``, ``lr_power``, ``schedule``,
    ``update``, ``rounding``, ``backend``, ``device``, ``dtype``, ``delta``, ``rank``,
    ``pre_triangle``, ``lebesgue_p``, ``tie_rule``, ``generator``) those of ``HebbianConv2d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        t_invert: float = COMPETITION.t_invert,
        *,
        rule: str | Rule | OwnCompetition = "softhebb",
        normalise: str | None = None,
        decay: float = 0.0,
        unit_norm: bool = False,
        neuron_rates: Tensor | None = None,
        conscience: float = 0.0,
        momentum: float = 0.1,
        padding_mode: str = CONVOLUTION.padding_mode,
        wta: str | None = None,
        bias: bool = False,
        init: Init = "normal",
        radius: float = 25.0,
        lr: float | None = None,
        lr_power: float | None = None,
        schedule: Callable[[int], float] | None = None,
        update: str = "grad",
        rounding: str = "nearest",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        delta: float | None = None,
        rank: int | None = None,
        pre_triangle: bool = CONVOLUTION.pre_triangle,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        own = of_rule(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
        plasticity = Plasticity.of(
            rule, normalise, decay, unit_norm, conscience, momentum, update, own["wta"]
        )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            t_invert,
            padding_mode=padding_mode,
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=usual_power(rule, lr_power),
            schedule=schedule,
            update=update,
            rounding=rounding,
            backend=backend,
            device=device,
            dtype=dtype,
            pre_triangle=pre_triangle,
            lebesgue_p=lebesgue_p,
            tie_rule=tie_rule,
            generator=generator,
            **own,
        )
        self.begin(plasticity, neuron_rates, self.group_size)

    def forward(
        self, x: Tensor, *, target: Tensor | None = None, modulator: Tensor | None = None
    ) -> Tensor:
        """As ``HebbianConv2d.forward``, for sequences ``x``."""
        row = self._row(x)
        given = {} if recorded(x) else self._rows(x, target, modulator)
        return super().forward(row, **given).squeeze(-2)

    def hebbian_update(
        self, x: Tensor, *, target: Tensor | None = None, modulator: Tensor | None = None
    ) -> HebbianOutput:
        """As ``HebbianConv2d.hebbian_update``, for sequences ``x``: with ``target`` and
        ``modulator``."""
        row = self._row(x)
        out = Plastic.hebbian_update(self, row, **self._rows(x, target, modulator))
        return out._replace(u=out.u.squeeze(-2))

    def _rows(self, x: Tensor, *both: Tensor | None) -> dict[str, Tensor | None]:
        return dict(zip(("target", "modulator"), (in_rows(t, x) for t in both), strict=True))


class HebbianLinear(Plastic, SoftHebbLinear):
    """A fully connected layer that learns by any rule: ``SoftHebbLinear`` is the case
    ``"softhebb"``.

    Input ``[..., N]``, output u ``[..., K]``; ``weight`` is ``[K, N]``, a modulator ``[...]``, a
    target ``[..., K]`` or class indices ``[...]``. ``in_features`` and ``out_features`` are those
    of ``SoftHebbLinear``, all other arguments (``t_invert``, ``rule``, ``normalise``, ``decay``,
    ``unit_norm``, ``neuron_rates``, ``conscience``, ``momentum``, ``wta``, ``bias``, ``init``,
    ``radius``, ``lr``, ``lr_power``, ``schedule``, ``update``, ``rounding``, ``backend``,
    ``device``, ``dtype``, ``delta``, ``rank``, ``lebesgue_p``, ``tie_rule``, ``generator``) those
    of ``HebbianConv2d``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        t_invert: float = COMPETITION.t_invert,
        *,
        rule: str | Rule | OwnCompetition = "softhebb",
        normalise: str | None = None,
        decay: float = 0.0,
        unit_norm: bool = False,
        neuron_rates: Tensor | None = None,
        conscience: float = 0.0,
        momentum: float = 0.1,
        wta: str | None = None,
        bias: bool = False,
        init: Init = "normal",
        radius: float = 25.0,
        lr: float | None = None,
        lr_power: float | None = None,
        schedule: Callable[[int], float] | None = None,
        update: str = "grad",
        rounding: str = "nearest",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        delta: float | None = None,
        rank: int | None = None,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        own = of_rule(rule, t_invert, wta, delta, rank, lebesgue_p, tie_rule)
        plasticity = Plasticity.of(
            rule, normalise, decay, unit_norm, conscience, momentum, update, own["wta"]
        )
        super().__init__(
            in_features,
            out_features,
            t_invert,
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=usual_power(rule, lr_power),
            schedule=schedule,
            update=update,
            rounding=rounding,
            backend=backend,
            device=device,
            dtype=dtype,
            lebesgue_p=lebesgue_p,
            tie_rule=tie_rule,
            generator=generator,
            **own,
        )
        self.begin(plasticity, neuron_rates, self.group_size)

    def positions(self, x: Tensor) -> int:
        """How many positions u of ``x`` has, over all samples."""
        return x.shape[:-1].numel()

    def _hebbian(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **given: Any
    ) -> HebbianOutput:
        return functional.hebbian_linear(x, weight, bias, **{**self.options(), **given})

    def _hebbian_step_(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **known: Any
    ) -> HebbianStep:
        rate = {"lr": self.base_rate(), "lr_power": self.lr_power, **self.step_options()}
        return functional.hebbian_linear_step_(
            x, weight, bias, **{**self.options(), **known}, **rate
        )
