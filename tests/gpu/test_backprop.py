"""Ordinary networks on the device: exact resume, bfloat16, arithmetic that breaks a symmetry."""

from __future__ import annotations

from pathlib import Path

import pytest

from softhebb_fast.training import runs
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.loop import Interrupted
from tests.gpu import DEVICE, MARKS, needs_cuda
from tests.tiny import write_mnist_subset
from tests.training.test_backprop import CONST
from tests.training.test_resume import StopAt, ending, is_same

pytestmark = MARKS


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


def made(out: Path, root: Path, reporter=None, **changes):
    config = BackpropConfig(**CONST | {"device": DEVICE.type} | changes)
    return runs.begin(config, out, root=root, reporter=reporter)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, root, autocast):
    made(tmp_path / "whole", root, autocast=autocast).run()
    reporter = StopAt(2)
    run = made(tmp_path / "run", root, reporter, autocast=autocast)
    reporter.trainer = run
    with pytest.raises(Interrupted):
        run.run()
    runs.resume(tmp_path / "run").run()
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))


@needs_cuda
@pytest.mark.parametrize("deterministic", [True, False])
def test_algorithms_of_cudnn_that_are_free_part_equal_channels(tmp_path, root, deterministic):
    options = {"options": {"widen": 4}, "limit": None, "batch": 100, "epochs": 20}
    run = made(tmp_path, root, **options, deterministic=deterministic, symmetry_steps=[60])
    run.run()
    deviations = [row["deviation"] for row in run.symmetry.rows[:-1]]
    assert any(deviations) != deterministic
