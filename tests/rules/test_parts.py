"""Two parts of a batch whose sums are added up teach what the whole batch does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from softhebb_fast import ops, reference
from softhebb_fast.backends import why_not
from softhebb_fast.functional import parts as parts_of
from softhebb_fast.functional.rule_tensors import Place, fitted
from softhebb_fast.kinds import RULES
from softhebb_fast.options import Competition, Rule
from tests.rules.cases import OWN, needs
from tests.tolerances import TOLERANCES, assert_close

LINEAR = {"reference": reference.linear, "kernel": ops.linear}


@pytest.mark.parametrize("backend", LINEAR)
@pytest.mark.parametrize("rule", RULES)
def test_parts_of_unequal_size(rule, backend):
    if backend == "kernel" and (reason := why_not("cpp", "cpu")):
        pytest.skip(reason)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(12, 5, generator=draw, dtype=torch.float64)
    w = torch.randn(4, 5, generator=draw, dtype=torch.float64)
    tensors = needs(rule, (12, 4), 1, draw)
    tensors["modulator"] = torch.randn(12, generator=draw, dtype=torch.float64)
    t = OWN.get(rule, {}).get("t_invert", 12.0)
    competition = Competition.of(rule, t, None, None, None, 2.0, "first")
    rows = (slice(0, 12), slice(0, 7), slice(7, 12))
    parts = []
    for own in rows:
        taken = {k: v[own] if k in ("modulator", "target") else v for k, v in tensors.items()}
        part = x[own]
        parts.append(
            (part, fitted(Rule.of(rule, decay=0.1, **taken), Place(part, w, (len(part), 4))))
        )
    whole = reference.linear(parts[0][0], w, None, competition, parts[0][1])
    barrier, shared = Barrier(2, timeout=30), [None, None]

    def learn(i: int):
        def total(own: torch.Tensor) -> torch.Tensor:
            shared[i] = own
            barrier.wait()
            both = shared[0] + shared[1]
            barrier.wait()
            return both

        part, named = parts[1 + i]
        return parts_of.whole(reference.linear, part, w, None, (competition,), named, total)

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(learn, range(2)))
    for out in found:
        assert_close(out.delta_w, whole.delta_w, TOLERANCES["float64"])
        if whole.statistic is not None:
            assert_close(out.statistic, whole.statistic, TOLERANCES["float64"])
    assert torch.equal(found[0].delta_w, found[1].delta_w)
