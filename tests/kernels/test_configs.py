"""Which configurations an architecture takes, and when programs may wait for each other."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu.budget import committed
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.geometry import conv2d_geometry
from softhebb_fast.kernels.operands import rule_args, tiling
from softhebb_fast.kernels.tables import NARROW, ONE_PASS, TABLE, Config
from softhebb_fast.options import Competition, Convolution

FAMILY = {0: 0, 80: 80, 86: 80, 89: 80, 90: 90, 100: 100, 103: 100, 110: 80, 120: 80, 121: 80}
SMALLEST = 101376  # bytes of shared memory that a program may have on sm_86, sm_89 and sm_120


@pytest.mark.parametrize(("arch", "family"), FAMILY.items())
def test_an_architecture_takes_the_tables_of_one_that_was_compiled(arch, family):
    G = geometry()
    for kernel, numbers in TABLE:
        dtype = torch.bfloat16 if numbers == "16" else torch.float32
        assert configs.listed(kernel, G, dtype, arch) == configs.listed(kernel, G, dtype, family)
        one_pass = configs.one_pass(geometry(filters=96, channels=3), dtype, arch)
        assert (one_pass is None) == ((family, configs._numbers(dtype)) not in ONE_PASS)


@pytest.mark.parametrize(("arch", "large"), [(80, True), (89, False), (90, True), (120, False)])
def test_blocks_of_large_patches_take_one_pass_where_nothing_spills(arch, large, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    for channels, wanted in ((3, large), (2, True)):
        G = conv2d_geometry(
            torch.empty(10, channels, 32, 32, device="meta"),
            torch.empty(96, channels, 5, 5, device="meta"),
            Convolution(padding=(2, 2)),
        )
        config = configs.one_pass(G, torch.float32, arch)
        assert configs.one_pass_of_blocks(G, config, arch) == wanted


@pytest.mark.parametrize("channels", [3, 24])
def test_short_runs_of_channels_have_their_own_on_120(channels, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    image = torch.empty(10, channels, 32, 32, device="meta")
    G = conv2d_geometry(
        image.to(memory_format=torch.channels_last),
        torch.empty(256, channels, 5, 5, device="meta"),
        Convolution(padding=(2, 2)),
    )
    of_80, *narrow = (configs.forward(G, 10240, torch.float32, arch) for arch in (80, 120, 121))
    assert narrow == [NARROW[120, "forward", "tf32"]] * 2
    assert of_80 not in narrow


@pytest.mark.parametrize(
    ("precision", "dtype", "channels", "scarce"),
    [
        ("tf32", torch.float32, 3, True),
        ("ieee", torch.bfloat16, 15, True),
        ("tf32", torch.float32, 16, False),
        ("ieee", torch.float32, 3, False),
        ("tf32x3", torch.float32, 3, False),
    ],
)
def test_plasticity_of_few_channels_takes_a_small_tile(
    precision, dtype, channels, scarce, monkeypatch
):
    """Others spill on every GPU of NVIDIA's where a patch is too large for one pass."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    x = torch.empty(10, channels, 32, 32, dtype=dtype, device="meta")
    w = torch.empty(96, channels, 7, 7, dtype=dtype, device="meta")
    G = conv2d_geometry(x, w, Convolution(padding=(3, 3)))
    config = tiling(x, G, rule_args(Competition(), x_bound=1.0)).config
    assert (config == Config(64, 64, 64, 4, 3)) == scarce


def test_what_has_no_table_of_its_own_has_the_memory_for_that_of_sm_80():
    rows = [r for r in committed().values() if r["target"] in ("sm_80", "sm_120a")]
    assert rows
    assert max(int(r["shared"]) for r in rows) <= SMALLEST


def geometry(filters=1536, channels=384, groups=1):
    x = torch.empty(10, groups * channels, 8, 8, device="meta")
    w = torch.empty(groups * filters, channels, 3, 3, device="meta")
    return conv2d_geometry(x, w, Convolution(padding=(1, 1), groups=groups))


def fuses(processors=132, arch=90, filters=1536, groups=1):
    """With tiles of 128 neurons."""
    w = torch.empty(groups * filters, 384, 3, 3, device="meta")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "processors", lambda device: processors)
        patch.setattr(configs, "architecture", lambda device: arch)
        config = configs.Config(64, 128, 64, 4, 3)
        return configs.fuse_activity(geometry(filters, groups=groups), w, config, w.device)


@pytest.mark.parametrize(("processors", "waits"), [(47, False), (48, True), (132, True)])
def test_programs_wait_where_four_streams_of_them_run_concurrently(processors, waits):
    assert fuses(processors) == waits


def test_weights_of_a_group_must_lie_in_the_l2():
    assert not fuses(filters=2 * 1536)
    assert fuses(groups=8)


def test_programs_never_wait_on_amd_but_a_lone_tile_needs_no_other():
    assert not fuses(arch=0)
    assert fuses(arch=0, filters=128)


def test_waiting_can_be_forbidden(monkeypatch):
    monkeypatch.setenv(configs.WAIT, "0")
    assert not fuses()
    assert fuses(filters=128)
    monkeypatch.setenv(configs.WAIT, "1")
    assert fuses()
    monkeypatch.setenv(configs.WAIT, "no")
    with pytest.raises(ValueError, match="SOFTHEBB_FAST_WAIT must be 0 or 1; got 'no'"):
        fuses()


def test_what_is_looked_up_again_follows_precision_and_choice(monkeypatch):
    G, found = geometry(), {}
    for _ in range(2):
        for precision in ("tf32", "ieee"):
            monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
            for choose in (configs.forward, configs.plasticity):
                config = choose(G, 640, torch.float32, 90)
                assert found.setdefault((choose, precision), config) == config
                own = config._replace(warps=1)
                with configs.chosen({choose.__name__: own}):
                    assert choose(G, 640, torch.float32, 90) == own
    assert found[configs.forward, "tf32"] != found[configs.forward, "ieee"]


def test_geometry_of_the_same_sizes_and_other_strides():
    weight = torch.empty(32, 16, 3, 3)
    maps = torch.empty(2, 16, 8, 8)
    for _ in range(2):
        near = conv2d_geometry(maps, weight, Convolution())
        last = conv2d_geometry(
            maps.to(memory_format=torch.channels_last), weight, Convolution(padding=(1, 1))
        )
        assert not near.CHANNELS_LAST
        assert not near.U_CHANNELS_LAST
        assert (near.OH, near.PADDING) == (6, "none")
        assert last.CHANNELS_LAST
        assert last.U_CHANNELS_LAST
        assert (last.OH, last.PADDING) == (8, "reflect")
        assert (near.XC, last.XC) == (64, 1)
