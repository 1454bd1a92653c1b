"""Operators and launch code on tensors that pretend to be on CUDA: nothing runs, all else happens.

The kernels themselves are left out; what chooses, allocates and launches them is the real code.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager
from torch.fx.experimental.proxy_tensor import make_fx

from softhebb_fast import extension, precision
from softhebb_fast.models import build, features
from softhebb_fast.ops import schema
from softhebb_fast.presets import get_preset
from tests.capture_safety import CUDA, CaptureError, CaptureSafety, fake_cuda, on_fake_cuda
from tests.kernels.cases import CASES, CONV, LINEAR, Case
from tests.kernels.rules import RULES, named

pytest.importorskip("triton")
from softhebb_fast.kernels import configs, launch
from tests.by_keyword import kernels

BLOCK = {
    "epilogue_centre": True,
    "epilogue_power": 0.7,
    "epilogue_pool": "max",
    "epilogue_kernel": (3, 2),
    "epilogue_stride": (2, 2),
    "epilogue_padding": (1, 0),
    "epilogue_groups": 1,
}
STEP = {"lr": 0.1, "lr_power": 0.5, "lr_tensor": None, "neuron_rates": None, "unit_norm": False}
ARCHITECTURES = (0, 80, 90, 100)
SHAPES = {
    "contiguous": Case(),
    "channels_last": CASES["channels_last"],
    "groups": CASES["groups"],
    "strided": CASES["strided"],
    "bias": CASES["bias-soft"],
    "hard": CASES["bias-hard"],
    "tiles": CASES["tiles-hard_anti"],
    "pre_triangle": CASES["pre_triangle"],
    "lebesgue": CASES["lebesgue"],
    "empty": Case(x=(0, 3, 7, 6)),
}

TRIED = [
    (name, shape, dtype)
    for name in schema.OPERATORS
    for shape in SHAPES
    for dtype in (torch.float32, torch.bfloat16)
    if shape == "contiguous"
    or not (name.startswith("linear") or (dtype == torch.bfloat16 and shape != "channels_last"))
]


def arguments(name: str, case: Case, dtype: torch.dtype) -> tuple[tuple, dict]:
    """Tensors on the CPU and options for the operator ``name``."""
    if name.startswith("linear"):
        tensors = torch.randn(5, 21).to(dtype), torch.randn(7, 21).to(dtype), None
        options = LINEAR
    else:
        tensors = case.tensors(dtype)
        options = case.conv | (BLOCK if name.startswith("block") else {})
    return tensors, (STEP if name.endswith("_step_") else {}) | options


def pretend(tensors: tuple) -> list[Tensor | None]:
    """Tensors of the same dtypes, shapes and strides on the fake device."""
    return [
        None if t is None else torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=CUDA)
        for t in tensors
    ]


def operator(name: str):
    return getattr(extension.call, name).default


def outputs(out: Tensor | tuple) -> tuple:
    return (out,) if isinstance(out, Tensor) else tuple(out)


def looks(out: Tensor | tuple) -> list[tuple]:
    return [(t.dtype, tuple(t.shape), t.stride()) for t in outputs(out)]


@pytest.fixture(autouse=True)
def _a_device_of_many_processors(monkeypatch):
    monkeypatch.setattr(configs, "processors", lambda device: 132)


@pytest.fixture
def launches(monkeypatch) -> list[str]:
    """The kernels that would have been launched, in their order."""
    names = []
    monkeypatch.setattr(
        launch,
        "launch",
        lambda kernel, *_, **__: names.append(kernel.__name__.removesuffix("_kernel")),
    )
    return names


@pytest.mark.parametrize(("name", "shape", "dtype"), TRIED)
def test_launch_code_waits_for_nothing_and_gives_what_the_fake_kernel_says(
    name, shape, dtype, launches, monkeypatch
):
    case = SHAPES[shape]
    tensors, options = arguments(name, case, dtype)
    on_cpu = looks(operator(name)(*tensors, **options))
    implementation = schema.on("softhebb_fast.kernels", name)
    arguments_after = operator(name)._schema.arguments[3:]
    in_order = [options[a.name] for a in arguments_after if a.name in options]
    for arch in ARCHITECTURES:
        monkeypatch.setattr(configs, "architecture", lambda device, arch=arch: arch)
        launches.clear()
        with fake_cuda():
            given = pretend(tensors)
            said = operator(name)(*given, **options)
            with CaptureSafety():
                made = implementation(*given, *in_order)
            assert looks(made) == looks(said)
            assert {t.device for t in (*outputs(made), *outputs(said))} == {CUDA}
        if not (name.startswith("block") and case.layout == "channels_last"):
            assert looks(said) == on_cpu  # there the CPU's pooled map is contiguous
        assert len(launches) > 0 or tensors[0].numel() == 0


@pytest.mark.parametrize("name", RULES)
def test_launch_code_of_a_rule_waits_for_nothing_and_launches_no_more(name, launches, monkeypatch):
    case, rule = named(name, CASES["channels_last"])
    tensors = case.tensors(torch.float32)
    neurons = case.w[0]
    own = {f: t for f, t in rule._asdict().items() if isinstance(t, Tensor)}
    for arch in ARCHITECTURES:
        monkeypatch.setattr(configs, "architecture", lambda device, arch=arch: arch)
        launches.clear()
        with fake_cuda(), CaptureSafety():
            rule = rule._replace(**dict(zip(own, pretend(tuple(own.values())), strict=True)))
            out = kernels.conv2d(*pretend(tensors), rule, **case.conv)
            kernels.conv2d_step_(*pretend(tensors), rule, lr=0.1, unit_norm=True, **case.conv)
        assert launches == 2 * ["prepare", "forward", "plasticity", "apply"]
        assert out.delta_w.shape == tensors[1].shape
        counts = rule.statistic is not None
        assert (out.statistic is None) != counts
        assert not counts or (out.statistic.shape, out.statistic.dtype) == ((neurons,), torch.float)


@pytest.mark.parametrize(
    ("processors", "kept", "expected"),
    [(12, 1e9, ["forward"]), (11, 1e9, ["forward", "activity"]), (12, 0, ["forward", "activity"])],
)
def test_forward_makes_y_where_its_three_tiles_run_at_a_time_and_filters_stay_in_the_cache(
    processors, kept, expected, launches, monkeypatch
):
    monkeypatch.setattr(configs, "architecture", lambda device: 90)
    monkeypatch.setattr(configs, "processors", lambda device: processors)
    monkeypatch.setattr(configs, "KEPT", kept)
    tensors = Case((10, 96, 16, 16), (384, 96, 3, 3)).tensors(torch.bfloat16)
    with fake_cuda():
        kernels.conv2d(*pretend(tensors), **CONV)
    assert launches == ["prepare", *expected, "plasticity", "apply"]


@pytest.mark.parametrize("name", schema.OPERATORS)
def test_products_are_taken_as_torch_takes_its_own_unless_named(name, monkeypatch):
    """In every launch of the operator that multiplies."""
    tensors, options = arguments(name, CASES["channels_last"], torch.float32)
    taken = []
    monkeypatch.setattr(launch, "launch", lambda kernel, grid, config, F=None, **_: taken.append(F))
    monkeypatch.setattr(configs, "architecture", lambda device: 90)
    settings = {"conv2d": "tf32", "linear": "tf32x3"}  # two that the default is not
    monkeypatch.setattr(precision, "of_torch", settings.get)
    monkeypatch.delenv(precision.VARIABLE, raising=False)

    def found() -> set[str]:
        taken.clear()
        with fake_cuda():
            arguments_after = operator(name)._schema.arguments[3:]
            in_order = [options[a.name] for a in arguments_after if a.name in options]
            schema.on("softhebb_fast.kernels", name)(*pretend(tensors), *in_order)
        return {F.PRECISION for F in taken if hasattr(F, "PRECISION")}

    assert found() == {settings["linear" if name.startswith("linear") else "conv2d"]}
    monkeypatch.setenv(precision.VARIABLE, "ieee")
    assert found() == {"ieee"}


def test_a_value_read_by_launch_code_is_caught(launches, monkeypatch):
    def reads(x, *rest):
        x.sum().item()
        return learn(x, *rest)

    learn = kernels._learn
    monkeypatch.setattr(kernels.module, "_learn", reads)
    tensors, options = arguments("conv_step_", Case(), torch.float32)
    arguments_of = operator("conv_step_")._schema.arguments[3:]
    in_order = [options[a.name] for a in arguments_of if a.name in options]
    step = schema.on("softhebb_fast.kernels", "conv_step_")
    with fake_cuda(), CaptureSafety(), pytest.raises(CaptureError, match="waits for the device"):
        step(*pretend(tensors), *in_order)


@pytest.mark.parametrize("name", schema.OPERATORS)
def test_every_operator_is_one_node_of_one_graph(name):
    """Traced by ``make_fx``, and by ``torch.compile`` without a break, on CUDA tensors."""
    tensors, options = arguments(name, CASES["channels_last"], torch.float32)
    graphs = []

    def call(x, weight, bias):
        out = operator(name)(x.relu(), weight, bias, **options)
        return [t.sin() for t in outputs(out)]

    def backend(module, inputs):
        graphs.append(module)
        return aot_eager(module, inputs)

    with fake_cuda():
        given = pretend(tensors)
        expected = looks(call(*given))
        traced = make_fx(call)(*given)
        torch._dynamo.reset()
        compiled = torch.compile(call, fullgraph=True, backend=backend)(*given)
        assert looks(compiled) == expected
    assert len(graphs) == 1
    for graph in (traced, *graphs):
        targets = [str(node.target).removesuffix(".default") for node in graph.graph.nodes]
        assert targets.count(f"softhebb_fast.{name}") == 1


def test_a_published_net_is_one_graph_of_fused_operators():
    """The whole unsupervised step, batch norm and pooling included."""
    net = build(get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.1), (3, 32, 32), 10)
    found = []

    def backend(module, inputs):
        found.append([str(n.target) for n in module.graph.nodes])
        return module.forward

    def step(x):
        with torch.no_grad():
            return features([*net.blocks], x)

    with fake_cuda():
        net = on_fake_cuda(net).train()
        x = torch.empty(10, 3, 32, 32, device=CUDA)
        torch._dynamo.reset()
        out = torch.compile(step, fullgraph=True, backend=backend)(x)
        assert (out.device, out.shape[0]) == (CUDA, 10)
    assert len(found) == 1
    assert sum(target.startswith("softhebb_fast.") for target in found[0]) == 3
