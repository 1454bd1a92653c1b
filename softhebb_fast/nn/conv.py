"""SoftHebb convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.checks import fitted_conv2d, put_around
from softhebb_fast.functional import SoftHebbOutput, Step
from softhebb_fast.init import Init
from softhebb_fast.nn.layer import HebbianLayer, check_sizes
from softhebb_fast.nn.recording import check_input, convolution_of, recorded
from softhebb_fast.options import (
    COMPETITION,
    CONVOLUTION,
    Competition,
    Convolution,
    padded_sides,
    pair,
    single,
)
from softhebb_fast.reference import lebesgue_weight


class SoftHebbConv2d(HebbianLayer):
    """A convolution that learns by soft winner-take-all Hebbian plasticity.

    Input ``[B, C, H, W]``, output u ``[B, K, OH, OW]``; ``weight`` is ``[K, C / groups, R, S]``.
    ``[C, H, W]`` is a batch of one, from which it learns, too; its u is ``[K, OH, OW]``.

    Args:
        in_channels: C.
        out_channels: K, the competing neurons.
        kernel_size: R and S, an int or a pair; so are ``stride``, ``padding`` and ``dilation``.
        padding: also ``"valid"`` (none) or ``"same"`` (u has the size of x; stride 1), as in
            ``nn.Conv2d``.
        groups: channels and neurons are split into so many groups; neurons compete inside theirs.
        t_invert: inverse temperature of the softmax; hard competitions ignore it.
        padding_mode: ``"reflect"``, ``"zeros"``, ``"replicate"`` or ``"circular"``.
        wta: the competition: ``"soft_anti"``, ``"soft"``, ``"hard"`` or ``"hard_anti"``; see
            ``functional.softhebb_conv2d``.
        bias: add a prior to u that soft competitions learn by a rule of their own.
        init: how weights start: a name, a dict ``{"name": ..., ...}`` or a callable that fills the
            weight or returns it; see ``softhebb_fast.init``.
        radius: mean norm of a filter at the start, for the initialisations that take one.
        lr, lr_power: base rate and exponent of ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` for
            ``update="in_place"``; exponent 0 gives the plain rate ``lr``.
        schedule: the base rate as a function of the number of steps made so far, in the place of
            ``lr``: one of ``softhebb_fast.optim`` (``LinearDecay(0.1, 5000)``) or your own. The
            count is in the layer's ``state_dict``, as ``steps``; a state without it starts at 0.
            ``torch.compile`` breaks its graph there, so ``fullgraph=True`` is refused.
        update: ``"grad"`` assigns the normalised ascent direction to ``weight.grad`` for an
            optimizer with ``maximize=True`` (or a negative rate), in place of what is there;
            ``"in_place"`` steps by itself.
        rounding: ``"nearest"`` or ``"stochastic"``, of float16 and bfloat16 weights stepped in
            place. To the nearest, steps below half the spacing of such numbers are lost.
        backend: ``"auto"``, ``"reference"``, ``"cpp"`` or ``"triton"``.
        device, dtype: of the weight.
        delta, rank: strength and place (1 is the winner) of the unlearning in ``"hard_anti"``.
        pre_triangle: replace u by ``relu(u - mean over channels)`` before the competition.
        lebesgue_p: the product uses ``sign(W) |W|^(p - 1)``.
        tie_rule: who wins among equal u: ``"first"`` or ``"spread"``; see
            ``functional.softhebb_conv2d``.
        generator: for random initialisation.

    Raises ValueError and TypeError for arguments and inputs that do not fit, naming them.

    Source: Journé et al. 2023 (arXiv 2209.11883).
    """

    r1_tolerance: float = 1e-2
    bias_rate: float = 0.1
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int
    padding_mode: str
    pre_triangle: bool

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
        padding_mode: str = CONVOLUTION.padding_mode,
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
        pre_triangle: bool = CONVOLUTION.pre_triangle,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        in_channels, out_channels, groups = check_sizes(
            in_channels=in_channels, out_channels=out_channels, groups=groups
        )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                "groups must divide in_channels and out_channels; got "
                f"{groups=}, {in_channels=}, {out_channels=}"
            )
        kernel_size = pair(kernel_size, "kernel_size")
        geometry = pair(stride, "stride"), pair(dilation, "dilation")
        before, after = padded_sides(padding, kernel_size, *geometry)
        convolution = Convolution(
            geometry[0], after, geometry[1], groups, padding_mode, pre_triangle
        ).checked()
        super().__init__(
            (out_channels, in_channels // groups, *kernel_size),
            out_channels // groups,
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
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = kernel_size
        for name, value in convolution._asdict().items():
            setattr(self, name, value)
        if before != after:
            self.padding = "same"

    @property
    def convolution(self) -> Convolution:
        return Convolution(*(getattr(self, name) for name in Convolution._fields))

    def options(self) -> dict[str, Any]:
        return {**self.convolution._asdict(), **super().options()}

    def _hebbian(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **given: Any
    ) -> SoftHebbOutput:
        return functional.softhebb_conv2d(x, weight, bias, **{**self.options(), **given})

    def _hebbian_step_(self, x: Tensor, weight: Tensor, bias: Tensor | None, **known: Any) -> Step:
        options = {**self.options(), **known, "lr": self.base_rate(), "lr_power": self.lr_power}
        return functional.softhebb_conv2d_step_(x, weight, bias, **options)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        batch, c = x, self.convolution
        if not recorded(x):
            batch, c = fitted_conv2d(x, weight, bias, c)
        padding = c.padding if c.padding_mode == "zeros" else (0, 0)
        if padding != c.padding:
            sides = padded_sides(c.padding, self.kernel_size, c.stride, c.dilation)
            batch = put_around(batch, *sides, c.padding_mode)
        weight = lebesgue_weight(weight, self.lebesgue_p)
        u = convolution_of(x)(batch, weight, bias, c.stride, padding, c.dilation, c.groups)
        if self.pre_triangle:
            u = F.relu(u - u.mean(dim=-3, keepdim=True))
        return u if recorded(x) or x.dim() == 4 else u.squeeze(0)

    def extra_repr(self) -> str:
        geometry = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        for name in ("stride", "padding", "dilation"):
            if getattr(self, name) != getattr(CONVOLUTION, name):
                geometry += f", {name}={getattr(self, name)}"
        if self.groups > 1:
            geometry += f", groups={self.groups}"
        if self.padding != (0, 0):
            geometry += f", padding_mode={self.padding_mode!r}"
        if self.pre_triangle:
            geometry += ", pre_triangle=True"
        return f"{geometry}, {self._options()}"


class SoftHebbConv1d(SoftHebbConv2d):
    """``SoftHebbConv2d`` on sequences: input ``[B, C, L]`` or ``[C, L]``, output u ``[B, K, OL]``.

    The sequence is an image of one row: ``weight`` is ``[K, C / groups, 1, S]``.

    Args:
        in_channels: C.
        out_channels: K, the competing neurons.
        kernel_size: S, an int; so are ``stride``, ``padding`` and ``dilation``.
        padding: also ``"same"`` or ``"valid"``.

    All other arguments (``groups``, ``t_invert``, ``padding_mode``, ``wta``, ``bias``, ``init``,
    ``radius``, ``lr``, ``lr_power``, ``schedule``, ``update``, ``rounding``, ``backend``,
    ``device``, ``dtype``, ``delta``, ``rank``, ``pre_triangle``, ``lebesgue_p``, ``tie_rule``,
    ``generator``) mean what they mean in ``SoftHebbConv2d``.
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
        padding_mode: str = CONVOLUTION.padding_mode,
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
        pre_triangle: bool = CONVOLUTION.pre_triangle,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (1, single(kernel_size, "kernel_size")),
            (1, single(stride, "stride")),
            padding if isinstance(padding, str) else (0, single(padding, "padding")),
            (1, single(dilation, "dilation")),
            groups,
            t_invert,
            padding_mode=padding_mode,
            wta=wta,
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=lr_power,
            schedule=schedule,
            update=update,
            rounding=rounding,
            backend=backend,
            device=device,
            dtype=dtype,
            delta=delta,
            rank=rank,
            pre_triangle=pre_triangle,
            lebesgue_p=lebesgue_p,
            tie_rule=tie_rule,
            generator=generator,
        )

    def forward(self, x: Tensor) -> Tensor:
        """As ``SoftHebbConv2d.forward``, for sequences ``x``."""
        return super().forward(self._row(x)).squeeze(-2)

    def hebbian_update(self, x: Tensor) -> SoftHebbOutput:
        """As ``SoftHebbConv2d.hebbian_update``, for sequences ``x``."""
        out = super().hebbian_update(self._row(x))
        return out._replace(u=out.u.squeeze(-2))

    def _row(self, x: Tensor) -> Tensor:
        check_input(x)
        if not recorded(x) and x.dim() not in (2, 3):
            raise ValueError(f"x must be [B, C, L] or [C, L]; got {tuple(x.shape)}")
        return x.unsqueeze(-2)
