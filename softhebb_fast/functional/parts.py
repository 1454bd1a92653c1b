"""The update of a batch, or of one whose parts lie in several processes.

D is a sum over positions before it is normalised, and so are the bias's direction, the statistic
and the counts. So a backend is asked for them as they are, they are added up over the processes in
one message, and what follows is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from softhebb_fast import reference
from softhebb_fast.functional.distributed import Total, over, together
from softhebb_fast.options import Rule
from softhebb_fast.reference import HebbianOutput

Layer = Callable[..., HebbianOutput]  # conv2d or linear of a backend
Statistic = Callable[[Tensor | None], Tensor | None]


def learned(
    layer: Layer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    options: tuple[Any, ...],
    rule: Rule,
    group: dist.ProcessGroup | None = None,
    statistic: Statistic | None = None,
) -> HebbianOutput:
    """What ``layer`` gives for x, a batch or this process's part of one that ``group`` holds.

    ``statistic`` says what the rule's state follows from, if that is not what the layer found.
    """
    if group is not None:
        return whole(layer, x, weight, bias, options, rule, over(group), statistic)
    out = layer(x, weight, bias, *options, rule)
    return out if statistic is None else out._replace(statistic=statistic(out.statistic))


def whole(
    layer: Layer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    options: tuple[Any, ...],
    rule: Rule,
    total: Total,
    statistic: Statistic | None = None,
) -> HebbianOutput:
    """``learned`` of the part x of a batch, whose parts ``total`` adds up.

    16-bit factors are taken to float32, since sums that are not normalised leave their range.
    """
    x_c, w_c, b_c = (None if t is None else reference.accumulated(t) for t in (x, weight, bias))
    raw = layer(x_c, w_c, b_c, *options, rule._replace(normalise="none", counts=None))
    *geometry, competition = options
    groups = geometry[0].groups if geometry else 1
    with torch.no_grad():
        u, d = raw.u.detach(), raw.delta_w.contiguous()

        def activity() -> Tensor:
            at = {"groups": groups, "overwrite": not geometry}
            return reference.activity(u, w_c, competition, rule, **at)

        count = b = None
        if rule.normalise == "mean":
            count = d.new_full((), u.numel() // u.shape[1])
        elif rule.normalise == "count":
            count = raw.statistic
            if rule.statistic != "activity":
                count = reference.over_positions(reference.modulated(activity(), rule))
        if b_c is not None and competition.soft and rule.learns_bias:
            b = reference.bias_sums(activity(), b_c, competition, rule)
        s = raw.statistic if statistic is None else statistic(raw.statistic)
        d, count, b, s = _added(total, d, count, b, s)
        d = reference.divided(d, count, rule, groups).to(weight.dtype)
        b = None if b is None else reference.over_largest(b).to(bias.dtype)
    return HebbianOutput(raw.u.to(x.dtype), d, b, s)


def _added(total: Total, *parts: Tensor | None) -> list[Tensor | None]:
    """Those of the tensors that there are, added up in one message."""
    sums = iter(together(total, [t for t in parts if t is not None]))
    return [None if t is None else next(sums) for t in parts]
