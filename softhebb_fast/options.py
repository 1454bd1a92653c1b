"""What a layer computes: frozen values that travel whole from public functions to kernels.

Every option is a field here. Its default and its own check stand here alone, and the schemas of the
operators follow from the fields.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.kinds import (
    ACTIVITIES,
    GAINS,
    KINDS,
    NORMALISATIONS,
    PADDING_MODES,
    RULES,
    TIE_RULES,
    WTA,
    Kind,
    RuleKind,
)
from softhebb_fast.scalars import at_least_zero, number, plain, positive, whole


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

    @classmethod
    def of(
        cls,
        rule: str | Rule,
        t_invert: float,
        wta: str | None,
        delta: float | None,
        rank: int | None,
        lebesgue_p: float,
        tie_rule: str,
    ) -> Competition:
        """The competition of a rule, whose own options stand where None is given.

        Raises ValueError for a ``wta`` that makes another rule.
        """
        kind = None if isinstance(rule, Rule) else rule_kind(rule)
        own = {} if kind is None else dict(kind.competition)
        if kind is not None and kind.wta is not None:
            if wta not in (None, kind.wta):
                raise ValueError(
                    f"wta must be {kind.wta!r}, or be left out, for rule={rule!r}; got {wta!r}"
                )
            own["wta"] = kind.wta
        said = {"wta": wta, "delta": delta, "rank": rank}
        own |= {name: value for name, value in said.items() if value is not None}
        return cls(t_invert, lebesgue_p=lebesgue_p, tie_rule=tie_rule, **own)

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
    """A step in place: the rate ``lr (| ||W_k|| - 1 | + 1e-10)^lr_power`` of neuron k, and what
    follows.

    Attributes:
        lr, lr_power: base rate and exponent.
        lr_tensor: one number on the device of x, read when the step runs. It replaces ``lr``.
        neuron_rates: a factor for the rate of every neuron, ``[K]``, in the dtype of the sums.
        unit_norm: scale the weights to Lebesgue norm 1 after the step. Neurons whose rate is 0
            stay as they are, and so do weights of 0.
    """

    lr: float
    lr_power: float = 0.5
    lr_tensor: Tensor | None = None
    neuron_rates: Tensor | None = None
    unit_norm: bool = False

    @classmethod
    def of(
        cls,
        lr: float | Tensor,
        lr_power: float,
        device: torch.device,
        neuron_rates: Tensor | None = None,
        unit_norm: bool = False,
    ) -> Rate:
        """The rate of a step on ``device``. Raises TypeError or ValueError, naming the argument."""
        rest = number("lr_power", lr_power), neuron_rates, unit_norm
        if not isinstance(lr, Tensor):
            return cls(number("lr", lr), rest[0], None, *rest[1:])
        if lr.numel() != 1 or lr.is_complex():
            raise ValueError(f"lr must be a number; got {lr.dtype} of shape {tuple(lr.shape)}")
        if lr.device == device:
            return cls(0.0, rest[0], lr, *rest[1:])
        if lr.device.type != "cpu":
            raise ValueError(f"lr must lie on {device} or on the CPU; got a tensor on {lr.device}")
        return cls(float(lr), rest[0], None, *rest[1:])

    @property
    def base(self) -> float | Tensor:
        return self.lr if self.lr_tensor is None else self.lr_tensor

    @property
    def plain(self) -> bool:
        """Whether nothing but the norms decides, as in the published steps."""
        return self.neuron_rates is None and not self.unit_norm


class Rule(NamedTuple):
    """What is learned: ``D[k] = sum_p A[p, k] x_p - sum_j G[k, j] W_j``, then its normalisation.

    The fields' defaults are SoftHebb. Tensors are in the dtype of the sums (float64 of float64,
    else float32).

    Attributes:
        activity: A. ``"competition"``: the competition of u; ``"linear"``: u; ``"threshold"``:
            ``u (u - threshold)``; ``"target"``: the target; ``"error"``: the target less
            ``softmax(t u)`` over the neurons of a group. ``"lateral"`` and ``"rectified_lateral"``
            are what ``reference.settle`` makes of u. Outside the CPU backends see it as a
            ``"target"``.
        gain: G. ``"none"``; ``"product"``: diagonal, ``sum_p A u``; ``"activity"``: diagonal,
            ``sum_p A``; ``"square"``: diagonal, ``sum_p A^2``, the modulator taken once, of an
            activity that is a target or settles; ``"lower"``: the lower triangle with the
            diagonal of ``sum_p A[p, k] u[p, j]``, of a linear activity, inside a group.
        nearest: ``u - ||W||^2 / 2`` competes, so that the winner is the neuron whose weights are
            nearest to the patch.
        normalise: ``"max"``: D over its largest magnitude in a group, plus 1e-30; ``"mean"``: over
            the number of positions; ``"none"``; ``"count"``: row k over
            ``counts[k] + sum_p A[p, k]``, plus 1e-30.
        decay: D loses ``decay`` times the number of positions times W, before it is normalised.
        modulator: a third factor, which multiplies A wherever it stands, G included:
            ``[B, 1, OH, OW]`` or ``[B, 1]``.
        target: of the shape of u.
        threshold: ``[K]``, of ``"threshold"``; given with ``"competition"`` it is a handicap, and
            ``u - threshold`` competes.
        counts: ``[K]``, what neurons have learned from before, for ``"count"``.
        lateral: M ``[K, K / groups]`` of the activities that settle, see ``reference.settle``.
    """

    activity: str = "competition"
    gain: str = "product"
    nearest: bool = False
    normalise: str = "max"
    decay: float = 0.0
    modulator: Tensor | None = None
    target: Tensor | None = None
    threshold: Tensor | None = None
    counts: Tensor | None = None
    lateral: Tensor | None = None

    @classmethod
    def of(
        cls,
        rule: str | Rule,
        normalise: str | None = None,
        decay: float | None = None,
        **tensors: Tensor | None,
    ) -> Rule:
        """A rule by its name in ``kinds.RULES``, or one that is given, with what is not None.

        Raises TypeError or ValueError, naming the argument.
        """
        if not isinstance(rule, Rule):
            kind = rule_kind(rule)
            rule = cls(kind.activity, kind.gain, kind.nearest, kind.normalise)
        said = {"normalise": normalise, "decay": decay, **tensors}
        return rule._replace(**{k: v for k, v in said.items() if v is not None}).checked()

    def checked(self) -> Rule:
        """The same, if its fields fit each other. Raises TypeError or ValueError, naming the field.

        Tensors are looked at by ``checks.checked_rule``.
        """
        check_among("activity", self.activity, ACTIVITIES)
        check_among("gain", self.gain, GAINS)
        check_among("normalise", self.normalise, NORMALISATIONS)
        if self.nearest and self.activity != "competition":
            raise ValueError(f"nearest must be False for activity={self.activity!r}; got True")
        if self.gain == "lower" and self.activity != "linear":
            raise ValueError(f"gain must not be 'lower' for activity={self.activity!r}")
        if self.gain == "square" and not (self.settles or self.activity == "target"):
            raise ValueError(f"gain must not be 'square' for activity={self.activity!r}")
        if self.gain == "activity" and self.activity == "threshold":
            raise ValueError("gain must not be 'activity' for activity='threshold'")
        if self.normalise == "count" and self.gain != "activity":
            raise ValueError(f"normalise must not be 'count' for gain={self.gain!r}")
        return self._replace(
            nearest=bool(plain(self.nearest)), decay=at_least_zero("decay", self.decay)
        )

    @property
    def settles(self) -> bool:
        """Whether neurons act on each other until their activity is settled."""
        return self.activity in ("lateral", "rectified_lateral")

    @property
    def wants(self) -> tuple[str, ...]:
        """The tensors that it cannot do without."""
        named = {
            "target": self.activity in ("target", "error"),
            "threshold": self.activity == "threshold",
            "counts": self.normalise == "count",
            "lateral": self.settles,
        }
        return tuple(name for name, wanted in named.items() if wanted)

    @property
    def statistic(self) -> str | None:
        """What of every neuron is summed over positions for the caller, ``[K]``.

        ``"square"``: u^2, for a threshold; ``"activity"``: A, for a gain of activities: the wins of
        a hard competition; ``"products"``: A with the activities of its group before any modulator,
        ``[K, K / groups]``, of those that settle.
        """
        if self.settles:
            return "products"
        if self.activity == "threshold":
            return "square"
        return "activity" if self.gain == "activity" else None

    @property
    def learns_bias(self) -> bool:
        """Whether there is a rule for the bias, if the competition is a soft one."""
        return self.activity == "competition"


class Epilogue(NamedTuple):
    """What follows u in a block: ``relu(u - mean over channels) ** power``, then pooling.

    Attributes:
        centre: subtract the mean (Triangle); False for RePU and ReLU.
        power: positive exponent.
        pool: ``"max"`` or ``"avg"``, padding counted in the average, sizes rounded down.
        kernel, stride, padding: of the pooling; 1, 1 and 0 for none.
        groups: the channels are split into so many groups, each with a mean of its own.
    """

    centre: bool = True
    power: float = 1.0
    pool: str = "max"
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def apply(self, u: Tensor) -> Tensor:
        """The epilogue of ``u [B, K, OH, OW]`` in plain PyTorch: ``[B, K, PH, PW]``.

        Computed in float32 at least, returned in the dtype of u.
        """
        a = u if u.dtype == torch.float64 else u.float()
        if self.centre:
            a = torch.cat([p - p.mean(dim=1, keepdim=True) for p in a.chunk(self.groups, 1)], 1)
        a = F.relu(a)
        a = a if self.power == 1 else a**self.power
        pool = F.max_pool2d if self.pool == "max" else F.avg_pool2d
        return pool(a, self.kernel, self.stride, self.padding).to(u.dtype)


# The defaults, for signatures that name every option.
CONVOLUTION, COMPETITION, RULE = Convolution(), Competition(), Rule()


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


def rule_kind(rule: str) -> RuleKind:
    """The rule of that name. Raises ValueError if there is none, TypeError for no name."""
    if not isinstance(rule, str):
        raise TypeError(f"rule must be a name or an options.Rule; got {type(rule).__name__}")
    check_among("rule", rule, tuple(RULES))
    return RULES[rule]


def usual_lr_power(rule: str | Rule) -> float:
    """The exponent of the rate by norm if none is given: 0, a constant rate, of a rule that has no
    name. Raises as ``rule_kind``."""
    return 0.0 if isinstance(rule, Rule) else rule_kind(rule).lr_power


def check_lebesgue_p(lebesgue_p: float) -> float:
    found = number("lebesgue_p", lebesgue_p)
    if not 1 <= found < float("inf"):
        raise ValueError(f"lebesgue_p must be at least 1 and finite; got {lebesgue_p!r}")
    return found


def check_among(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
