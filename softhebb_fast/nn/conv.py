"""SoftHebb convolutions."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import functional
from softhebb_fast.checks import check_conv2d
from softhebb_fast.functional import SoftHebbOutput, Step
from softhebb_fast.init import Init
from softhebb_fast.nn.layer import HebbianLayer, check_sizes
from softhebb_fast.options import COMPETITION, CONVOLUTION, Competition, Convolution, pair
from softhebb_fast.reference import lebesgue_weight, pad


class SoftHebbConv2d(HebbianLayer):
    """A convolution that learns by soft winner-take-all Hebbian plasticity.

    Input ``[B, C, H, W]``, output u ``[B, K, OH, OW]``; ``weight`` is ``[K, C / groups, R, S]``.
    The arguments that ``functional.softhebb_conv2d`` also has mean the same here.

    Args:
        in_channels: C.
        out_channels: K, the competing neurons.
        kernel_size: R and S, an int or a pair; so are ``stride``, ``padding`` and ``dilation``.
        bias: add a prior to u that soft competitions learn by a rule of their own.
        init: how weights start: a name, a dict ``{"name": ..., ...}`` or a callable that fills the
            weight or returns it; see ``softhebb_fast.init``.
        radius: mean norm of a filter at the start, for the initialisations that take one.
        lr, lr_power: base rate and exponent of ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` for
            ``update="in_place"``; exponent 0 gives the plain rate ``lr``.
        update: ``"grad"`` assigns the normalised ascent direction to ``weight.grad`` for an
            optimizer with ``maximize=True`` (or a negative rate), in place of what is there;
            ``"in_place"`` steps by itself.
        rounding: ``"nearest"`` or ``"stochastic"``, of float16 and bfloat16 weights stepped in
            place. To the nearest, steps below half the spacing of such numbers are lost.
        generator: for random initialisation.

    Raises ValueError and TypeError for arguments and inputs that do not fit, naming them.

    Source: Journé et al. 2023 (arXiv 2209.11883).
    """

    r1_tolerance = 1e-2
    bias_rate = 0.1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
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
        check_sizes(in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                "groups must divide in_channels and out_channels; got "
                f"{groups=}, {in_channels=}, {out_channels=}"
            )
        kernel_size = pair(kernel_size, "kernel_size")
        convolution = Convolution(stride, padding, dilation, groups, padding_mode, pre_triangle)
        super().__init__(
            (out_channels, in_channels // groups, *kernel_size),
            out_channels // groups,
            Competition(t_invert, wta, delta, rank, lebesgue_p, tie_rule),
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=lr_power,
            update=update,
            rounding=rounding,
            backend=backend,
            generator=generator,
            device=device,
            dtype=dtype,
        )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = kernel_size
        for name, value in convolution.checked()._asdict().items():
            setattr(self, name, value)

    @property
    def convolution(self) -> Convolution:
        return Convolution(*(getattr(self, name) for name in Convolution._fields))

    def options(self) -> dict[str, Any]:
        return {**self.convolution._asdict(), **super().options()}

    def _hebbian(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **summed: dist.ProcessGroup
    ) -> SoftHebbOutput:
        return functional.softhebb_conv2d(x, weight, bias, **self.options(), **summed)

    def _hebbian_step_(self, x: Tensor, weight: Tensor, bias: Tensor | None, **known: Any) -> Step:
        options = {**self.options(), **known, "lr": self.lr, "lr_power": self.lr_power}
        return functional.softhebb_conv2d_step_(x, weight, bias, **options)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        check_conv2d(x, weight, bias, self.convolution)
        padding = self.padding if self.padding_mode == "zeros" else (0, 0)
        if padding != self.padding:
            x = pad(x, self.padding, self.padding_mode)
        weight = lebesgue_weight(weight, self.lebesgue_p)
        u = F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)
        return F.relu(u - u.mean(dim=1, keepdim=True)) if self.pre_triangle else u

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
    """``SoftHebbConv2d`` on sequences: input ``[B, C, L]``, output u ``[B, K, OL]``.

    The sequence is an image of one row: ``weight`` is ``[K, C / groups, 1, S]``. ``kernel_size``,
    ``stride``, ``padding`` and ``dilation`` are ints; all else is as in ``SoftHebbConv2d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        t_invert: float = 12.0,
        **options,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (1, kernel_size),
            (1, stride),
            (0, padding),
            (1, dilation),
            groups,
            t_invert,
            **options,
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 3:
            raise ValueError(f"x must be [B, C, L]; got {tuple(x.shape)}")
        return super().forward(x.unsqueeze(2)).squeeze(2)

    def hebbian_update(self, x: Tensor) -> SoftHebbOutput:
        out = super().hebbian_update(x.unsqueeze(2))
        return out._replace(u=out.u.squeeze(2))
