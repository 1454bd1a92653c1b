"""An explicit backend runs or says why not; "auto" chooses once and says so at debug level."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from types import SimpleNamespace

import pytest
import torch

from softhebb_fast import backends, ops, reference
from softhebb_fast.backends import BACKENDS, PREFERENCE, choose, resolve, why_not
from softhebb_fast.functional import softhebb_conv2d, softhebb_linear
from tests import oracle
from tests.tolerances import assert_outputs_close, clear_of_band


def conv_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    x, weight = torch.randn(6, 3, 7, 7), torch.randn(5, 3, 3, 3) / 5
    return clear_of_band(x, oracle.conv2d(x, weight).u), weight


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_named_backend_runs_or_says_why_not(backend, device):
    x, weight = conv_inputs()
    reason = why_not(backend, device)
    calls = (
        (softhebb_conv2d, oracle.conv2d, x, weight),
        (softhebb_linear, oracle.linear, x.flatten(1), torch.randn(4, 147) / 12),
    )
    for function, expected, x, weight in calls:
        if reason is None:
            out = function(x.to(device), weight.to(device), backend=backend)
            assert out.u.device.type == device.type
            assert_outputs_close(out, expected(x, weight))
        else:
            with pytest.raises(RuntimeError) as error:
                function(x.to(device), weight.to(device), backend=backend)
            assert str(error.value).startswith(f"backend={backend!r} cannot run on device")
            assert reason in str(error.value)
            assert "Use backend='auto'" in str(error.value)


@pytest.mark.parametrize("name", ["auto", "reference"])
@pytest.mark.parametrize("device_type", ["cpu", "cuda", "meta", "mps"])
def test_auto_and_reference_are_never_refused(name, device_type):
    assert why_not(name, device_type) is None


def test_triton_does_not_run_on_the_cpu():
    assert why_not("triton", "cpu")
    with pytest.raises(RuntimeError, match="'triton' cannot run on device 'cpu'"):
        resolve("triton", "cpu")


@pytest.mark.parametrize(("capability", "runs"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_triton_says_of_which_gpu_it_is_too_new(capability, runs, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = SimpleNamespace(**dict(zip(("major", "minor"), capability, strict=True)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: gpu)
    reason = why_not("triton", "cuda")
    assert choose("cuda") == ("triton" if runs else "reference")
    assert reason is None or reason.endswith("8.0, this GPU has 7.5")
    assert (reason is None) == runs


@pytest.mark.parametrize("function", [why_not, resolve])
def test_an_unknown_backend_is_an_error(function):
    with pytest.raises(ValueError, match=r"^backend must be one of auto, reference.*got 'numpy'"):
        function("numpy", "cpu")


def test_missing_kernels_are_told_once_when_they_would_have_run(monkeypatch):
    monkeypatch.setattr(ops, "MISSING", "nobody built them")
    backends._warn_of_missing_kernels.cache_clear()
    x, weight = conv_inputs()
    with pytest.warns(RuntimeWarning, match="by its reference, .*: nobody built them"):
        softhebb_conv2d(x, weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        softhebb_conv2d(x, weight)
        softhebb_linear(x.flatten(1), torch.randn(4, 147))


@pytest.mark.parametrize(
    ("backend", "device_type"), [("auto", "mps"), ("auto", "meta"), ("reference", "cpu")]
)
def test_where_the_reference_is_wanted_no_kernels_are_missed(backend, device_type, monkeypatch):
    monkeypatch.setattr(ops, "MISSING", "nobody built them")
    backends._warn_of_missing_kernels.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve(backend, device_type) is reference
    assert choose("cpu") == "reference"


def test_auto_takes_the_first_backend_that_runs(device):
    expected = next(n for n in PREFERENCE[device.type] if why_not(n, device) is None)
    assert choose(device.type) == expected
    assert resolve("auto", device) is resolve(expected, device)


def test_auto_falls_back_on_the_reference():
    assert choose("meta") == "reference"


@pytest.fixture
def fresh_backends():
    """The module anew, as in a process that has not chosen yet."""
    spec = importlib.util.find_spec(backends.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_auto_tells_its_choice_once_at_debug_level(fresh_backends, caplog):
    with caplog.at_level(logging.DEBUG, logger=backends.__name__):
        for _ in range(3):
            fresh_backends.resolve("auto", "cpu")
    messages = [r.getMessage() for r in caplog.records if r.name == backends.__name__]
    chosen = fresh_backends.choose("cpu")
    assert messages.count(f"auto is {chosen} on cpu") == 1
    assert {r.levelno for r in caplog.records} == {logging.DEBUG}
    candidates = PREFERENCE["cpu"]
    for passed in candidates[: candidates.index(chosen)]:
        told = [m for m in messages if m.startswith(f"auto passes over {passed} on cpu: ")]
        assert told == [f"auto passes over {passed} on cpu: {why_not(passed, 'cpu')}"]
