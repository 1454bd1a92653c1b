"""64-bit offsets: where a tensor reaches beyond 2**31 elements, and only there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu.offline import launches_go_to
from softhebb_fast.kernels.geometry import conv2d_geometry
from softhebb_fast.options import CONVOLUTION
from tests.by_keyword import kernels, reference
from tests.kernels.cases import CASES, POOLS, Case
from tests.tolerances import assert_close, assert_outputs_close, tolerance

FAR = 2**30 + 1024  # of three images the last needs 33 bits
BYTES = 4


def geometry(x, weight):
    return conv2d_geometry(x, weight, CONVOLUTION)


@pytest.mark.parametrize(("last", "wide"), [(2**31 - 2, False), (2**31, True)])
def test_wide_where_an_offset_needs_it(last, wide):
    """``last`` is the offset of the last element of x, of the weight, or of u."""
    small = torch.empty(1, 1, 1, 1, device="meta")
    far = torch.empty_strided((2, 1, 1, 1), (last, 1, 1, 1), device="meta")
    assert wide == geometry(far, small).WIDE
    assert wide == geometry(small, far).WIDE
    images = torch.empty_strided((last // 2**16 + 1, 1, 1, 1), (0, 1, 1, 1), device="meta")
    neurons = torch.empty_strided((2**16, 1, 1, 1), (0, 1, 1, 1), device="meta")
    assert wide == geometry(images[: None if wide else -1], neurons).WIDE


@pytest.fixture
def far_images(emulator, monkeypatch):
    """Memory in which every image of the first argument lies FAR elements after the one before.

    They are held side by side: an address is folded back, if it is right to the bit.
    """

    class Machine(emulator.Machine):
        near = 0

        def gidx(self, a, n, m, what):
            image = np.maximum((a - emulator.BASE + BYTES * 1024) // (BYTES * FAR), 0)
            return super().gidx(a - image * BYTES * (FAR - self.near), n, m, what)

    monkeypatch.setattr(emulator, "Machine", Machine)
    return Machine


@pytest.mark.parametrize("path", ["one_pass", "apart"])
def test_offsets_beyond_32_bits(emulator, far_images, path, monkeypatch):
    case = (
        Case((3, 3, 6, 5), (20, 3, 3, 3))
        if path == "one_pass"
        else Case((3, 32, 5, 4), (20, 32, 3, 3), layout="channels_last")
    )
    x, w, _ = case.tensors(torch.float32)
    far_images.near = x.stride(0)
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3" if path == "one_pass" else "ieee")
    true = kernels.conv2d_geometry

    def run(wide: bool):
        def strided(*args):
            return true(*args)._replace(XB=FAR, WIDE=wide)

        monkeypatch.setattr(kernels.module, "conv2d_geometry", strided)

        def emulate(launch):
            emulator.run(launch.compile("sm_90a"), launch.grid, launch.source()[1])

        with launches_go_to(emulate, "sm_90a"):
            return kernels.conv2d(x, w, None, **case.conv)

    want = reference.conv2d(x.double(), w.double(), None, **case.conv)
    assert_outputs_close(run(wide=True), want)
    with pytest.raises(emulator.Fault, match=r"out-of-bounds"):
        run(wide=False)


@pytest.mark.parametrize(
    "name", ["channels_last-groups", pytest.param("tiles", marks=pytest.mark.slow)]
)
def test_wide_offsets_change_no_bit(emulator, name, monkeypatch):
    """Of everything that is written: u, statistics, what is pooled, the update."""
    case, results = CASES[name], []
    x, w, bias = case.tensors(torch.bfloat16)
    true = kernels.conv2d_geometry

    def emulate(launch):
        emulator.run(launch.compile("sm_80"), launch.grid, launch.source()[1])

    for wide in (False, True):
        monkeypatch.setattr(
            kernels, "conv2d_geometry", lambda *a, wide=wide: true(*a)._replace(WIDE=wide)
        )
        with launches_go_to(emulate, "sm_80"):
            results.append(kernels.block_update(x, w, bias, POOLS["max-4-2-1"], **case.conv))
    (out, delta_w, *_), (far_out, far_delta_w, *_) = results
    assert torch.equal(out, far_out)
    assert torch.equal(delta_w, far_delta_w)
    want = reference.block_update(x.double(), w.double(), bias, POOLS["max-4-2-1"], **case.conv)
    assert_close(delta_w, want[1], 2 * tolerance(x.dtype, "delta_w"))
