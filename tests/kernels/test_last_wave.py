"""Plasticity whose first tiles have a program each, and whose last ones are shared."""

from __future__ import annotations

from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu.layers import call
from benchmarks.gpu.offline import launches_go_to
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.geometry import Geometry, conv2d_geometry
from softhebb_fast.options import Convolution
from tests.by_keyword import kernels, reference
from tests.kernels.cases import Case
from tests.kernels.test_ptx_lines import of_the_assertion
from tests.tolerances import assert_outputs_close

SLOW = pytest.mark.slow
TARGETS = ("sm_80", "sm_90a")
TILE = configs.Config(16, 32, 64, 4, 3)
CASE = Case((2, 48, 5, 4), (70, 48, 3, 3), bias=True, layout="channels_last")  # 21 tiles, 3 steps
WIDE = configs.Config(64, 128, 128, 8, 3)
NUMBERS = ("bfloat16", "tf32x3", *(pytest.param(n, marks=SLOW) for n in ("ieee", "bf16x6")))


@pytest.fixture
def shared(monkeypatch):
    """Tiles that are whole, and programs of every other."""

    def set_(whole: int, programs: int) -> None:
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
        monkeypatch.setattr(configs, "plasticity", lambda *_: TILE)
        monkeypatch.setattr(configs, "last_wave", lambda G, M, config: (whole, programs))

    return set_


def learned(numbers: str):
    """The call, what the definition makes of its arguments, and the precision of products."""
    dtype = torch.bfloat16 if numbers == "bfloat16" else torch.float32
    x, w, bias = CASE.tensors(dtype)
    want = reference.conv2d(x.double(), w.double(), bias.double(), **CASE.conv)
    precision = "ieee" if dtype == torch.bfloat16 else numbers
    return partial(kernels.conv2d, x, w, bias, **CASE.conv), want, precision


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(("whole", "programs"), [(16, 2), pytest.param(1, 4, marks=SLOW)])
def test_shared_tiles_are_the_definition_too(emulated, shared, target, numbers, whole, programs):
    """Four programs find positions for three."""
    shared(whole, programs)
    run, want, precision = learned(numbers)
    got, reports = emulated(target, precision, run)
    assert_outputs_close(got, want, got.u.dtype)
    assert [r["kernel"] for r in reports] == ["prepare", "forward", "plasticity", "apply"]
    assert [r["races"] for r in reports] == [{}] * 4


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("gain", ["product", "none"])
def test_other_gains_share_as_well(emulated, shared, target, gain):
    shared(16, 2)
    rule = {"rule": kernels.RULE._replace(gain=gain, normalise="mean")}
    x, w, _ = CASE.tensors(torch.bfloat16)
    got, _ = emulated(target, "ieee", lambda: kernels.conv2d(x, w, None, **CASE.conv, **rule))
    want = reference.conv2d(x.double(), w.double(), None, **CASE.conv, **rule)
    assert_outputs_close(got, want, x.dtype)


@pytest.mark.parametrize("target", TARGETS)
def test_whoever_comes_last_to_a_tile_makes_the_same_bits(emulated, backwards, shared, target):
    shared(16, 3)
    run, _, precision = learned("bfloat16")
    first, alone = (emulated(target, precision, run, batch=n)[0].delta_w for n in (32, 1))
    backwards()
    last = emulated(target, precision, run, batch=1)[0].delta_w
    assert torch.equal(first, alone)
    assert torch.equal(first, last)


@pytest.mark.parametrize("target", TARGETS)
def test_parts_of_shared_tiles_fit_their_room(shortened, shared, target):
    shared(16, 3)
    run, _, precision = learned("bfloat16")
    tried, passed = shortened(target, precision, run)
    assert ("plasticity", "rest") in tried
    assert not [kernel for kernel, _ in passed if kernel == "plasticity"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("numbers", ["bfloat16", pytest.param("tf32x3", marks=SLOW)])
def test_every_line_runs(emulated, shared, target, numbers):
    shared(14, 4)
    run, _, precision = learned(numbers)
    _, reports = emulated(target, precision, run)
    (report,) = (r for r in reports if r["kernel"] == "plasticity")
    assert set(report["not_run"]) == of_the_assertion(report["not_run"])


def layer(rows: int, columns: int, groups: int = 1) -> Geometry:
    """Of so many tiles of ``WIDE``, the last of which are not full."""
    x = torch.empty(10, 128 * columns * groups, 8, 8, device="meta")
    w = torch.empty((128 * rows - 5) * groups, 128 * columns, 1, 1, device="meta")
    return conv2d_geometry(x, w, Convolution(groups=groups))


@pytest.mark.parametrize(
    ("rows", "columns", "positions", "wanted"),
    [
        (12, 27, 640, (264, 2)),  # 324 tiles leave 60
        (12, 27, 6400, (264, 2)),
        (12, 27, 4 * 64, (0, 1)),  # four steps are too few to share
        (19, 7, 640, (132, 3)),  # 133 leave one, whose ten steps go to programs of four
        (19, 7, 6400, (132, 15)),
        (25, 8, 6400, (0, 1)),  # 200 leave 68, more than half of the multiprocessors
        (11, 9, 6400, (0, 1)),  # 99 are no wave
        (11, 12, 6400, (0, 1)),  # 132 fill theirs
        (48, 22, 6400, (0, 1)),  # 1056 fill eight
        (48, 23, 6400, (0, 1)),  # of nine waves the last is little
    ],
)
def test_a_last_wave_is_shared_that_leaves_half_idle(rows, columns, positions, wanted):
    found = configs.last_wave(layer(rows, columns), positions, WIDE)
    assert found == wanted


def test_groups_share_nothing():
    assert configs.last_wave(layer(12, 27, groups=2), 6400, WIDE) == (0, 1)


def test_the_third_layer_of_the_published_network_shares_its_last_tiles(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")  # which ``call`` sets for good
    grids = []

    def note(launch):
        if launch.name == "plasticity":
            grids.append((launch.grid, launch.constants["WHOLE"], launch.constants["SPLITS"]))

    with launches_go_to(note, "sm_90a"):
        call("cifar10-3@10", "tf32")()
    assert grids == [((264 + 2 * 60, 1, 1), 264, 2)]
