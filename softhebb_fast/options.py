"""What a layer computes: frozen values that travel whole from public functions to kernels.

Every option is a field here. Its default and its own check stand here alone, and the schemas of the
operators follow from the fields.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.kinds import KINDS, PADDING_MODES, TIE_RULES, WTA, Kind
from softhebb_fast.scalars import number, plain, positive, whole


class Convolution(NamedTuple):
    """The geometry of a convolution, and what its u goes through before it competes.

    Attributes:
        stride, padding, dilation: of rows and columns.
        groups: channels and neurons are split into so many groups.
        padding_mode: one of ``PADDING_MODES``.
        pre_triangle: replace u by ``relu(u - mean over channels)``.
        x_bound: what no |x| exceeds, if that is known. It spares CUDA's 16-bit factors the search
            for the largest; a wrong one lets them overflow.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    padding_mode: str = "reflect"
    pre_triangle: bool = False
    x_bound: float | None = None

    def checked(self) -> Convolution:
        """The same with a pair for every int. Raises TypeError or ValueError, naming the option."""
        check_among("padding_mode", self.padding_mode, PADDING_MODES)
        return self._replace(
            groups=whole("groups", self.groups),
            x_bound=None if self.x_bound is None else positive("x_bound", self.x_bound),
            stride=pair(self.stride, "stride"),
            padding=pair(self.padding, "padding", least=0),
            dilation=pair(self.dilation, "dilation"),
            pre_triangle=plain(self.pre_triangle),
        )


class Competition(NamedTuple):
    """How the neurons of a group compete, and the exponent of their norm.

    Attributes:
        t_invert: inverse temperature of the softmax, from 1e-30 to 1e30; hard competitions ignore
            it.
        wta: one of ``WTA``.
        delta, rank: strength and place (1 is the winner) of the unlearning in ``"hard_anti"``.
        lebesgue_p: the product uses ``sign(W) |W|^(p - 1)``.
        tie_rule: one of ``TIE_RULES``, see ``reference.winners``.
    """

    t_invert: float = 12.0
    wta: str = "soft_anti"
    delta: float = 2.0
    rank: int = 3
    lebesgue_p: float = 2.0
    tie_rule: str = "first"

    def checked(self, neurons: int) -> Competition:
        """The same for groups of so many neurons, every number a float.

        Raises TypeError or ValueError, naming the option.
        """
        checked = self._replace(
            t_invert=number("t_invert", self.t_invert),
            delta=number("delta", self.delta),
            rank=whole("rank", self.rank),
            lebesgue_p=check_lebesgue_p(self.lebesgue_p),
        )
        if neurons < 1:
            raise ValueError(f"weight must hold at least one neuron a group; got {neurons}")
        check_among("wta", self.wta, WTA)
        check_among("tie_rule", self.tie_rule, TIE_RULES)
        t = positive("t_invert", checked.t_invert)
        if not 1e-30 <= t <= 1e30:
            raise ValueError(f"t_invert must be from 1e-30 to 1e30; got {self.t_invert!r}")
        if self.ranks and not 1 <= checked.rank <= neurons:
            raise ValueError(
                f"rank must lie in 1..{neurons}, the neurons of a group; got {self.rank!r}"
            )
        return checked

    @property
    def kind(self) -> Kind:
        """The flags of ``wta``."""
        return KINDS[self.wta]

    @property
    def soft(self) -> bool:
        return self.kind.soft

    @property
    def anti(self) -> bool:
        return self.kind.anti

    @property
    def ranks(self) -> bool:
        """Whether the neuron of a rank unlearns."""
        return self.anti and not self.soft


class Rate(NamedTuple):
    """The rate of a step in place, ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` for neuron k.

    Attributes:
        lr, lr_power: base rate and exponent.
        lr_tensor: one number on the device of x, read when the step runs. It replaces ``lr``.
    """

    lr: float
    lr_power: float = 0.5
    lr_tensor: Tensor | None = None

    @classmethod
    def of(cls, lr: float | Tensor, lr_power: float, device: torch.device) -> Rate:
        """The rate of a step on ``device``. Raises TypeError or ValueError, naming the argument."""
        lr_power = number("lr_power", lr_power)
        if not isinstance(lr, Tensor):
            return cls(number("lr", lr), lr_power)
        if lr.numel() != 1 or lr.is_complex():
            raise ValueError(f"lr must be a number; got {lr.dtype} of shape {tuple(lr.shape)}")
        if lr.device == device:
            return cls(0.0, lr_power, lr)
        if lr.device.type != "cpu":
            raise ValueError(f"lr must lie on {device} or on the CPU; got a tensor on {lr.device}")
        return cls(float(lr), lr_power)

    @property
    def base(self) -> float | Tensor:
        return self.lr if self.lr_tensor is None else self.lr_tensor


class Epilogue(NamedTuple):
    """What follows u in a block: ``relu(u - mean over channels) ** power``, then pooling.

    Attributes:
        centre: subtract the mean (Triangle); False for RePU and ReLU.
        power: positive exponent.
        pool: ``"max"`` or ``"avg"``, padding counted in the average, sizes rounded down.
        kernel, stride, padding: of the pooling; 1, 1 and 0 for none.
    """

    centre: bool = True
    power: float = 1.0
    pool: str = "max"
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def apply(self, u: Tensor) -> Tensor:
        """The epilogue of ``u [B, K, OH, OW]`` in plain PyTorch: ``[B, K, PH, PW]``.

        Computed in float32 at least, returned in the dtype of u.
        """
        a = u if u.dtype == torch.float64 else u.float()
        a = F.relu(a - a.mean(dim=1, keepdim=True) if self.centre else a)
        a = a if self.power == 1 else a**self.power
        pool = F.max_pool2d if self.pool == "max" else F.avg_pool2d
        return pool(a, self.kernel, self.stride, self.padding).to(u.dtype)


# The defaults, for signatures that name every option.
CONVOLUTION, COMPETITION = Convolution(), Competition()


def pair(value: int | tuple[int, int], name: str, least: int = 1) -> tuple[int, int]:
    """``value``, a number or two in a tuple, a list or an array, as (rows, columns) of at least
    ``least``."""
    values = value if type(value) is tuple else plain(value)
    if getattr(values, "ndim", None) == 1:
        values = values.tolist()
    if isinstance(values, int):
        values = values, values
    both = tuple(map(plain, values)) if isinstance(values, (tuple, list)) else ()
    if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, int) for v in both):
        raise TypeError(f"{name} must be an int or a pair of ints; got {value!r}")
    if min(both) < least:
        raise ValueError(f"{name} must be at least {least}; got {value!r}")
    return both


def single(value: int | tuple[int], name: str) -> int:
    """``value`` of a sequence: an int, or one in a tuple or list."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    return whole(name, value)


def padded_sides(
    padding: object,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What ``padding`` puts before and after (rows, columns); ``"same"`` gives u the size of x.

    Of an odd number ``"same"`` puts the smaller half before, as torch does.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        if isinstance(padding, str):
            raise ValueError(f"padding must be numbers, 'same' or 'valid'; got {padding!r}")
        both = pair(padding, "padding", least=0)
        return both, both
    if stride != (1, 1):
        raise ValueError(f"padding='same' needs stride 1; got stride={stride}")
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)


def check_lebesgue_p(lebesgue_p: float) -> float:
    found = number("lebesgue_p", lebesgue_p)
    if not 1 <= found < float("inf"):
        raise ValueError(f"lebesgue_p must be at least 1 and finite; got {lebesgue_p!r}")
    return found


def check_among(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
