"""What several tests ask of the native layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from hypothesis import assume
from torch import Tensor

from tests import oracle
from tests.by_keyword import ops
from tests.strategies import Case
from tests.tolerances import assert_outputs_close, clear_of_band


def assert_conv2d_is_the_oracle(case: Case) -> None:
    """In float64, unless rounding is magnified."""
    x, weight, bias = case.tensors()
    expected = oracle.conv2d(x, weight, bias, **case.options)
    assume(expected.condition < 1e3)
    assert_outputs_close(ops.conv2d(x, weight, bias, **case.options), expected)


def assert_float32_is_the_oracle_outside_the_band(case: Case) -> None:
    """In float32, on the samples where no winner hangs on rounding."""
    x, weight, bias = case.tensors(torch.float32)
    band = dict(groups=case.options["groups"])
    band |= dict(rank=case.options["rank"]) if case.options["wta"] == "hard_anti" else {}
    x = clear_of_band(x, oracle.conv2d(x, weight, bias, **case.options).u, **band)
    assume(len(x))
    expected = oracle.conv2d(x, weight, bias, **case.options)
    assume(expected.condition < 10 and case.options["t_invert"] <= 12)
    assert_outputs_close(ops.conv2d(x, weight, bias, **case.options), expected)


def assert_same_bits(compute: Callable[[], Iterable[Tensor]], counts: Iterable[int]) -> None:
    """``compute`` gives the same tensors at each of these numbers of threads."""
    threads, found = torch.get_num_threads(), []
    try:
        for count in counts:
            torch.set_num_threads(count)
            found.append(tuple(compute()))
    finally:
        torch.set_num_threads(threads)
    first, *others = found
    for tensors in others:
        assert all(torch.equal(own, want) for own, want in zip(tensors, first, strict=True))
