"""A user's program: a network is evaluated, exported, and run where the package is not."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from softhebb_fast import (
    RePU,
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
)
from softhebb_fast.nn import Block, Dropout, Softmax

ONNX = "waits for the packages onnx and onnxscript: pip install softhebb_fast[onnx]"
GRAD_MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


def network() -> nn.Sequential:
    """Every kind of layer, and whatever a block may fuse."""
    last = SoftHebbConv2d(12, 6, 3, padding="same", padding_mode="zeros", bias=True)
    net = nn.Sequential(
        SoftHebbBlock(3, 8, 5, padding=2, pool=nn.MaxPool2d(4, 2, 1)),
        SoftHebbBlock(
            *(8, 12, 4, 1, "same"),
            groups=2,
            padding_mode="circular",
            lebesgue_p=3,
            pre_triangle=True,
            activation=RePU(0.7),
            pool=nn.AvgPool2d(2),
        ),
        Block(last, activation=nn.ReLU(), pool=nn.MaxPool2d(2)),
        nn.Flatten(2),
        Block(SoftHebbConv1d(6, 6, 2), activation=Triangle()),
        nn.Flatten(),
        Dropout(0.5),
        SoftHebbLinear(18, 5, bias=True),
        Softmax(2.0),
    )
    net(torch.randn(8, 3, 16, 16))  # one step, for statistics
    return net.eval()


@pytest.fixture(params=[False, True], ids=["learnable", "frozen"])
def net(request: pytest.FixtureRequest) -> nn.Sequential:
    return network().requires_grad_(not request.param)


@pytest.fixture(params=GRAD_MODES, ids=lambda mode: mode.__name__)
def grad_mode(request: pytest.FixtureRequest) -> Callable:
    return request.param


def elsewhere(load: str, program: Path, x: torch.Tensor, folder: Path) -> torch.Tensor:
    """What a process makes of ``x`` in which the package cannot be imported."""
    torch.save(x, folder / "x.pt")
    code = (
        "import sys\nsys.modules['softhebb_fast'] = None\nimport torch\n"
        f"model = {load}\n"
        f"torch.save(model(torch.load({str(folder / 'x.pt')!r})).detach(), "
        f"{str(folder / 'y.pt')!r})\n"
    ).replace("PROGRAM", repr(str(program)))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "y.pt")


def test_a_trace_is_plain(net, grad_mode, tmp_path):
    x, other = torch.randn(2, 3, 16, 16), torch.randn(5, 3, 16, 16)
    with grad_mode(), warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(net, x)
    assert "softhebb_fast::" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(other), net(other))
    traced.save(tmp_path / "net.pt")
    found = elsewhere("torch.jit.load(PROGRAM)", tmp_path / "net.pt", other, tmp_path)
    torch.testing.assert_close(found, net(other).detach())


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_is_plain(net, grad_mode, strict, tmp_path):
    x, other = torch.randn(2, 3, 16, 16), torch.randn(5, 3, 16, 16)
    shapes = ({0: torch.export.Dim("batch")},)
    with grad_mode():
        program = torch.export.export(net, (x,), dynamic_shapes=shapes, strict=strict)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert called
    assert all(name.startswith("aten.") for name in called)
    torch.testing.assert_close(program.module()(other), net(other))
    if grad_mode is torch.no_grad and not strict:
        torch.export.save(program, tmp_path / "net.pt2")
        load = "torch.export.load(PROGRAM).module()"
        found = elsewhere(load, tmp_path / "net.pt2", other, tmp_path)
        torch.testing.assert_close(found, net(other).detach())


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "trace"])
def test_onnx_has_standard_operators(net, grad_mode, dynamo, tmp_path):
    onnx = pytest.importorskip("onnx", reason=ONNX)
    pytest.importorskip("onnxscript", reason=ONNX)
    x, path = torch.randn(2, 3, 16, 16), tmp_path / "net.onnx"
    with grad_mode(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), str(path), dynamo=dynamo, opset_version=18, verbose=False)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    (found,) = evaluator.run(None, {model.graph.input[0].name: x.numpy()})
    torch.testing.assert_close(torch.tensor(found), net(x).detach(), rtol=1e-4, atol=1e-5)


def test_fx_records_plain_calls(net):
    x = torch.randn(2, 3, 16, 16)
    graph = torch.fx.symbolic_trace(net)
    assert "softhebb" not in graph.code
    torch.testing.assert_close(graph(x), net(x))


REFUSED = {
    "trace": torch.jit.trace,
    "export": lambda layer, x: torch.export.export(layer, (x,)),
    "strict": lambda layer, x: torch.export.export(layer, (x,), strict=True),
    "fx": lambda layer, x: torch.fx.symbolic_trace(layer),
}


@pytest.mark.parametrize(
    "update", [{}, {"update": "in_place", "lr": 0.1}], ids=["grad", "in_place"]
)
@pytest.mark.parametrize("how", REFUSED)
def test_a_layer_that_learns_is_refused(how, update):
    for layer in (SoftHebbConv2d(3, 4, 3, **update), SoftHebbBlock(3, 4, 3, **update)):
        before = layer.state_dict()
        if how == "fx" and isinstance(layer, SoftHebbBlock):
            layer.norm = None  # torch's own cannot be traced in training mode
        with pytest.raises(Exception, match=r"cannot be traced or exported|Observed exception"):
            REFUSED[how](layer, torch.randn(2, 3, 8, 8))
        weight = "layer.weight" if "layer.weight" in before else "weight"
        assert torch.equal(layer.state_dict()[weight], before[weight])
    frozen = SoftHebbConv2d(3, 4, 3, **update).requires_grad_(False)
    REFUSED[how](frozen, torch.randn(2, 3, 8, 8))


def test_scripting_says_what_to_do(net):
    with pytest.raises(RuntimeError, match=r"cannot be scripted; use torch.jit.trace"):
        torch.jit.script(net)
    net(torch.randn(2, 3, 16, 16))


def test_dropout_that_is_traced_while_it_drops_draws_anew(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(Dropout(0.5), torch.ones(100), check_trace=False)
    assert "softhebb_fast::" not in str(traced.graph)
    assert not torch.equal(traced(torch.ones(100)), traced(torch.ones(100)))
