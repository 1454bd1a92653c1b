"""The precision of float32 products as a setting: of the process, of torch, of a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from softhebb_fast import extension, precision
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import load_run, read_config
from softhebb_fast.training.trainer import Trainer
from tests.by_keyword import ops
from tests.capture_safety import CUDA, fake_cuda
from tests.cpp.test_layer import LINEAR, layer
from tests.tiny import CONFIG, edit_config, trainer, write_mnist_subset

MISSING = precision.why_not("bf16x3", "cpu")
needs_tiles = pytest.mark.skipif(MISSING is not None, reason=f"bf16x3: {MISSING}")
needs_cpp = pytest.mark.skipif(extension.MISSING is not None, reason=str(extension.MISSING))


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.delenv(precision.VARIABLE, raising=False)
    yield
    torch.set_float32_matmul_precision("highest")


def u(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return ops.linear(x, weight, None, **LINEAR).u


def test_a_context_sets_and_restores(monkeypatch):
    with precision.use("ieee"):
        assert os.environ[precision.VARIABLE] == "ieee"
        with pytest.raises(KeyError, match="bf16x3"), precision.use("bf16x3"):
            raise KeyError(os.environ[precision.VARIABLE])
        assert os.environ[precision.VARIABLE] == "ieee"
    assert precision.VARIABLE not in os.environ


def test_what_can_be_had_where():
    assert precision.why_not("ieee", "cpu") is None
    assert precision.why_not("tf32", "cpu") == "it is for CUDA tensors"
    assert precision.why_not("tf32x3", "cuda") is None
    assert precision.why_not("bf16x3", "cuda") == "it is for CPU tensors"
    with pytest.raises(ValueError, match="one of ieee, bf16x3, bf16x6, tf32, tf32x3; got 'fp8'"):
        precision.why_not("fp8", "cpu")
    with pytest.raises(ValueError, match="got 'high'"), precision.use("high"):
        pass


@needs_cpp
def test_the_kernels_refuse_what_they_do_not_have(monkeypatch):
    x, weight = layer((4, 80), (70, 80))
    for name in ("tf32", "tf32x3", "fp8"):
        monkeypatch.setenv(precision.VARIABLE, name)
        with pytest.raises(ValueError, match=f"must be ieee or bf16x3 on the CPU; got {name}"):
            u(x, weight)
    assert u(x.double(), weight.double()).dtype == torch.float64


@pytest.mark.skipif(MISSING is None or extension.MISSING is not None, reason="bf16x3 can be had")
def test_without_tiles_a_named_precision_raises_and_torchs_setting_is_float32():
    x, weight = layer((4, 80), (70, 80))
    expected = u(x, weight)
    torch.set_float32_matmul_precision("high")
    assert torch.equal(u(x, weight), expected)
    with precision.use("bf16x3"), pytest.raises(RuntimeError, match="cannot be had"):
        u(x, weight)


@needs_tiles
def test_torchs_settings_count_where_none_is_named():
    x, weight = layer((4, 80), (70, 80))
    exact = u(x, weight)
    with precision.use("bf16x3"):
        split = u(x, weight)
    assert not torch.equal(split, exact)
    for name, expected in (("high", split), ("medium", split), ("highest", exact)):
        torch.set_float32_matmul_precision(name)
        assert torch.equal(u(x, weight), expected), name
    torch.set_float32_matmul_precision("high")
    with precision.use("ieee"):
        assert torch.equal(u(x, weight), exact)


@needs_tiles
def test_compiled_code_follows_a_change():
    x, weight = layer((4, 80), (70, 80))
    exact = u(x, weight)
    compiled = torch.compile(u, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, weight), exact)
    with precision.use("bf16x3"):
        assert torch.equal(compiled(x, weight), u(x, weight))
        assert not torch.equal(compiled(x, weight), exact)
    assert torch.equal(compiled(x, weight), exact)


# What is written, in a process of its own, and how products are then taken on CUDA.
SETTINGS = {
    "": "tf32 ieee",  # torch's defaults
    "torch.set_float32_matmul_precision('high')": "tf32 tf32",
    "b.cuda.matmul.allow_tf32 = True": "tf32 tf32",
    "b.cudnn.allow_tf32 = False": "ieee ieee",
    "b.cudnn.allow_tf32 = False; b.cuda.matmul.allow_tf32 = True": "ieee tf32",
    "b.cudnn.conv.fp32_precision = 'ieee'": "ieee ieee",
    "b.cudnn.rnn.fp32_precision = 'ieee'": "tf32 ieee",
    "b.cudnn.fp32_precision = 'ieee'": "ieee ieee",
    "b.fp32_precision = 'ieee'": "ieee ieee",
    "b.fp32_precision = 'tf32'": "tf32 tf32",
    "b.fp32_precision = 'tf32'; b.cudnn.conv.fp32_precision = 'ieee'": "ieee tf32",
    "b.fp32_precision = 'tf32'; b.cuda.matmul.fp32_precision = 'ieee'": "tf32 ieee",
    # torch's two interfaces mixed: what reads the old one raises
    "b.cudnn.conv.fp32_precision = 'ieee'; b.cuda.matmul.allow_tf32 = True": "ieee tf32",
}
EACH = """
import os, sys, torch
from softhebb_fast.precision import of_torch
b = torch.backends
for setting in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        exec(setting)
        print(of_torch("conv2d"), of_torch("linear"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_cuda_follows_the_settings_that_torch_follows(monkeypatch):
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", EACH, *SETTINGS],
        capture_output=True,
        text=True,
        check=True,
    )
    assert dict(zip(SETTINGS, run.stdout.splitlines(), strict=True)) == SETTINGS
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # restored after the test
    assert (precision.of_torch("conv2d"), precision.of_torch("linear")) == ("ieee", "tf32")
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert precision.of_torch("conv2d") == "tf32"


def test_only_cuda_tensors_follow_them(monkeypatch):
    monkeypatch.setattr(precision, "of_torch", {"conv2d": "tf32"}.get)
    found = precision.as_torch("conv2d")(lambda x: precision.torch_default())
    assert found(torch.empty(0)) == "ieee"
    assert found(torch.empty(0, device="meta")) == "ieee"
    assert precision.torch_default() == "ieee"
    with fake_cuda():
        assert found(torch.empty(0, device=CUDA)) == "tf32"
    assert precision.torch_default() == "ieee"


class Listener(Reporter):
    def __init__(self) -> None:
        self.seen: set[str | None] = set()

    def advance(self, count: int) -> None:
        self.seen.add(os.environ.get(precision.VARIABLE))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", ["ieee", pytest.param("bf16x3", marks=needs_tiles)])
def test_a_run_keeps_its_precision(tmp_path, root, name):
    listener = Listener()
    run = trainer(tmp_path, root, listener, precision=name, probe_epochs=1)
    with precision.use("ieee"):
        run.run()
    assert listener.seen == {name}
    assert read_config(tmp_path)[0].precision == name
    assert Trainer.resume(tmp_path).config.precision == name
    assert load_run(tmp_path).evaluate(root)[1] == pytest.approx(run.rows[-1]["test_accuracy"])


def test_runs_older_than_the_option_are_float32(tmp_path, root):
    trainer(tmp_path, root, probe_epochs=1)
    edit_config(tmp_path, lambda content: content["run"].pop("precision"))
    assert read_config(tmp_path)[0].precision == "ieee"


def test_a_run_refuses_a_precision_that_is_not_to_be_had(tmp_path, root):
    with pytest.raises(RuntimeError, match="precision='tf32' cannot be had on device 'cpu'"):
        trainer(tmp_path, root, precision="tf32")
    with pytest.raises(ValueError, match="precision must be ieee for backend='reference'"):
        RunConfig(**CONFIG, precision="bf16x3", backend="reference")
