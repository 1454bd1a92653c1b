"""What launches take and leave: the tensors from one kernel to the next, and a competition.

Kernels take these tuples whole. They are flat: a member may be None, a tuple inside may not hold
one under Triton 3.6.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kernels import configs
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.options import RULE, Competition, Rule

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Flags(NamedTuple):
    """What of a competition and a rule is known when a kernel is compiled."""

    SOFT: bool  # the competition is a softmax, not the winner alone
    ANTI: bool  # some neurons unlearn
    RANKS: bool  # the neuron of a rank does
    OVERWRITE: bool  # even where it is the winner
    LEBESGUE: bool  # the product uses sign(W) |W|^(p - 1)
    PRE_TRIANGLE: bool
    ACTIVITY: str
    GAIN: str
    NORMALISE: str
    NEAREST: bool  # u - |W|^2 / 2 competes
    SPARSE: bool  # y is 0 but where the winner and the neuron of the rank are
    TB: int = 0  # strides of the target: image, neuron, row, column
    TK: int = 0
    TY: int = 0
    TX: int = 0
    MB: int = 0  # and of the modulator
    MY: int = 0
    MX: int = 0

    @property
    def competes(self) -> bool:
        return self.ACTIVITY in ("competition", "error")

    @property
    def learns_bias(self) -> bool:
        return self.ACTIVITY == "competition" and self.SOFT


class Scalars(NamedTuple):
    """What of a competition and a rule is known when a kernel runs."""

    t_log2e: float
    delta: float
    y_scale: float  # a power of two that brings y, scaled, to at most 2^14
    y_inverse: float
    x_scale: float  # one that brings x, scaled, below 2^15, if its bound is known, else 0
    x_inverse: float
    lebesgue_p: float
    decay: float | None = None  # times the number of positions


class Signals(NamedTuple):
    """What a rule hears beside x: the third factor, the target ``[B, K, OH, OW]`` and the threshold
    ``[K]``, each where it is asked for; and what ``prepare`` sums up for NEAREST, ``|W|^2 / 2``."""

    modulator: Tensor | None = None
    target: Tensor | None = None
    threshold: Tensor | None = None
    distance: Tensor | None = None


class RuleArgs(NamedTuple):
    """A rule and its competition as the kernels take them; ``name`` and ``rank`` are for those who
    launch.

    y that is ``unbounded`` has no scale before it is known. ``counts [K]`` are for the
    normalisation of that name.
    """

    name: str
    rank: int
    unbounded: bool
    flags: Flags
    scalars: Scalars
    signals: Signals
    counts: Tensor | None

    @property
    def y_is_u(self) -> bool:
        return self.flags.ACTIVITY == "linear" and self.signals.modulator is None

    def heard(self, prep: Prepared) -> Signals:
        """The signals, with what is prepared of them."""
        return self.signals._replace(distance=prep.distance)

    def handicaps(self, prep: Prepared) -> Signals:
        """Those that decide who wins."""
        if self.flags.ACTIVITY != "competition":
            return Signals()
        return Signals(threshold=self.signals.threshold, distance=prep.distance)

    @property
    def of_softhebb(self) -> bool:
        """Whether the kernels are compiled for nothing that SoftHebb has not."""
        f = self.flags
        own = (f.ACTIVITY, f.GAIN, f.NEAREST) == ("competition", "product", False)
        return own and self.signals == Signals()

    @property
    def counted(self) -> bool:
        """Whether every neuron's sum of a value is asked for."""
        return self.flags.ACTIVITY == "threshold" or self.flags.GAIN == "activity"


def rule_args(
    c: Competition,
    rule: Rule = RULE,
    positions: int = 0,
    pre_triangle: bool = False,
    overwrite: bool = False,
    x_bound: float | None = None,
) -> RuleArgs:
    """Of a convolution, or with ``overwrite`` of a linear layer, and so many positions."""
    competes = rule.activity == "competition"
    soft = (competes and c.soft) or rule.activity == "error"
    anti, ranks = competes and c.anti, competes and c.ranks
    largest = 1 + abs(c.delta) if ranks else 1
    y_scale = 2.0 ** (14 - math.ceil(math.log2(largest)))
    x_scale = x_inverse = 0.0
    if x_bound is not None:
        exponent = max(-110, min(14 - math.frexp(x_bound)[1], 110))
        x_scale, x_inverse = 2.0**exponent, 2.0**-exponent
    flags = Flags(
        *(soft, anti, ranks, overwrite, c.lebesgue_p != 2, pre_triangle),
        *(rule.activity, rule.gain, rule.normalise, rule.nearest),
        competes and not soft and rule.modulator is None,
        *_strides(rule.target, (0, 1, 2, 3)),
        *_strides(rule.modulator, (0, 2, 3)),
    )
    scalars = Scalars(
        *(c.t_invert / math.log(2), c.delta, y_scale, 1 / y_scale),
        *(x_scale, x_inverse, c.lebesgue_p, rule.decay * positions if rule.decay else None),
    )
    return RuleArgs(
        c.wta if rule == RULE else f"{c.wta} {rule.activity} {rule.gain}",
        c.rank,
        not competes or rule.modulator is not None,
        flags,
        scalars,
        Signals(rule.modulator, rule.target, rule.threshold),
        rule.counts,
    )


def _strides(signal: Tensor | None, dimensions: tuple[int, ...]) -> list[int]:
    """Of one that is given; those of its last dimensions are 0 where it has only two."""
    if signal is None:
        return [0] * len(dimensions)
    return [signal.stride(d) if d < signal.dim() else 0 for d in dimensions]


class Tiling(NamedTuple):
    """Tiles of plasticity, down the neurons and across the patch, and programs that share one.

    The first ``whole`` of them have one program each.
    """

    config: Config
    splits: int
    rows: int
    columns: int
    whole: int = 0


class PreActivations(NamedTuple):
    """u, for 16-bit types what its rounding left over, and its sums over the neurons of a tile."""

    u: Tensor | None = None
    u_low: Tensor | None = None
    u_sums: Tensor | None = None


class Statistics(NamedTuple):
    """What the competition of a tile leaves, ``[GROUPS, TILES, M]``.

    The largest u, the winner, the neuron of the rank that unlearns, and log2 of the sum over the
    neurons of exp(t (u - largest u)). What nobody is to read is None.
    """

    top: Tensor | None = None
    win: Tensor | None = None
    anti: Tensor | None = None
    log_sum: Tensor | None = None


class Prepared(NamedTuple):
    """What is there before forward begins; see ``prepare``.

    ``distance [K]`` is |W|^2 / 2, what u lacks in a competition for the nearest.

    ``x_absmax`` are the bits of the largest |x| of parts of x, if it is to be scaled and has no
    bound. ``x0`` and ``x1`` are x, scaled, as plasticity multiplies it: one term or the sum of
    two. ``w16 [K, P]`` are the filters, each times a power of two whose inverse is in ``w_inverse
    [K]``, if forward multiplies them so. The counters are 0, and so are ``dw_absmax [GROUPS]`` and
    ``y_absmax [K]``, for the bits of the largest |y|, if y is to be scaled by it.
    """

    x_absmax: Tensor | None = None
    x0: Tensor | None = None
    x1: Tensor | None = None
    w16: Tensor | None = None
    w_inverse: Tensor | None = None
    dw_absmax: Tensor | None = None
    split_counters: Tensor | None = None
    row_counters: Tensor | None = None
    y_absmax: Tensor | None = None
    distance: Tensor | None = None

    @property
    def absmax_programs(self) -> int:
        return 0 if self.x_absmax is None else self.x_absmax.numel()


NOTHING_PREPARED = Prepared()


class Activity(NamedTuple):
    """y, laid out as u, the sum of one term or two; None where it is u itself.

    With ``y_absmax [K]``, the bits of a neuron's largest, y is float32 and not scaled yet.
    ``y_sums [PARTS, 2, K]`` are two sums over parts of the positions, see ``rules.summed``.
    """

    y: Tensor | None = None
    y1: Tensor | None = None
    y_sums: Tensor | None = None
    y_absmax: Tensor | None = None


NO_ACTIVITY = Activity()


class ForwardState(NamedTuple):
    """What forward leaves: u, its statistics or already y; and what it found prepared."""

    pre: PreActivations
    stats: Statistics
    activity: Activity
    prep: Prepared
    tiles: int


class WeightUpdate(NamedTuple):
    """D of the weights ``[K, P]``, and what is needed to apply it.

    ``norms [K, COLUMNS]`` are the sums of |W|^p over columns of the patch, if rates follow from
    them. ``dw_absmax [GROUPS]`` are the bits of the largest |D|. ``y_sums [PARTS, 2, K]`` are two
    sums over parts of the positions, see ``rules.summed``, if needed: without a bias and with u
    linear in W the sum of y u is <W, yx>.
    """

    d: Tensor
    norms: Tensor | None
    dw_absmax: Tensor
    y_sums: Tensor | None

    @property
    def columns(self) -> int:
        return 1 if self.norms is None else self.norms.shape[1]

    @property
    def parts(self) -> int:
        return 1 if self.y_sums is None else self.y_sums.shape[0]


def check_dtype(x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(
            f"x must be float32, float16 or bfloat16 for backend='triton'; got {x.dtype}. "
            "Use backend='reference' for float64"
        )


def tiling(x: Tensor, G: Geometry, c: RuleArgs) -> Tiling:
    positions, arch = x.shape[0] * G.pixels, configs.architecture(x.device)
    one_term = x.dtype != torch.float32 or configs.float16_terms(x.dtype) == 1
    scarce = scales_y(x, c) or (G.C < 16 and (one_term or not c.of_softhebb))
    config = configs.plasticity(G, positions, x.dtype, arch, scarce)
    rows, columns = -(-G.K // config.BN), -(-G.P // config.BP)
    splits, whole = configs.splits(G, positions, config), 0
    if splits == 1:
        whole, splits = configs.last_wave(G, positions, config)
    return Tiling(config, splits, rows, columns, whole)


def new_statistics(x: Tensor, G: Geometry, tiles: int, flags: Flags) -> Statistics:
    def new(dtype: torch.dtype) -> Tensor:
        return x.new_empty((G.GROUPS, tiles, x.shape[0] * G.pixels), dtype=dtype)

    top = new(torch.float32) if tiles > 1 or flags.SOFT else None
    anti = new(torch.int32) if flags.RANKS else None
    log_sum = new(torch.float32) if flags.SOFT else None
    return Statistics(top, new(torch.int32), anti, log_sum)


def new_y_sums(x: Tensor, G: Geometry, parts: int) -> Tensor:
    return x.new_empty((parts, 2, G.neurons), dtype=torch.float32)


def new_activity(
    x: Tensor, u: Tensor, G: Geometry, c: RuleArgs, parts: int, y_absmax: Tensor | None
) -> Activity:
    float16_terms, half = configs.float16_terms(x.dtype), torch.float16
    sums = new_y_sums(x, G, parts)
    if c.y_is_u and x.dtype != half:
        return Activity(None, None, sums, y_absmax)
    if y_absmax is not None:
        return Activity(torch.empty_like(u, dtype=torch.float32), None, sums, y_absmax)
    return Activity(
        torch.empty_like(u, dtype=half if float16_terms else x.dtype),
        torch.empty_like(u, dtype=half) if float16_terms > 1 else None,
        sums,
    )


def scales_y(x: Tensor, c: RuleArgs) -> bool:
    """Whether plasticity makes y a factor of float16, by a scale that its values decide."""
    return c.unbounded and (configs.float16_terms(x.dtype) > 0 or x.dtype == torch.float16)


def new_dw(
    x: Tensor, G: Geometry, splits: int, columns: int, rated: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Room for D and the norms, which may be left out, and for yx.

    yx ``[SPLITS, K, P]`` of a single split becomes D where it lies.
    """

    def new(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float32)

    d = new(G.neurons, G.P)
    norms = new(G.neurons, columns) if rated else None
    return d, norms, d if splits == 1 else new(splits, G.neurons, G.P)
