"""The operators are well-formed: schemas, fake kernels, mutation, autograd, compilation."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from softhebb_fast.ops import schema
from softhebb_fast.options import Competition, Rule

CONV = dict(
    stride=(1, 2),
    padding=(1, 1),
    dilation=(1, 1),
    groups=2,
    t_invert=2.0,
    wta="soft_anti",
    delta=2.0,
    rank=2,
    padding_mode="reflect",
    pre_triangle=False,
    x_bound=None,
    lebesgue_p=2.0,
    tie_rule="first",
)
LINEAR = {name: CONV[name] for name in Competition._fields}
BLOCK = dict(
    epilogue_centre=True,
    epilogue_power=0.7,
    epilogue_pool="max",
    epilogue_kernel=(2, 2),
    epilogue_stride=(2, 1),
    epilogue_padding=(1, 0),
    epilogue_groups=2,
)
STEP = dict(lr=0.1, lr_power=0.5, lr_tensor=None, neuron_rates=None, unit_norm=False)


def conv_inputs(**options) -> tuple[torch.Tensor, ...]:
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64, **options)
    weight = torch.randn(6, 2, 3, 3, dtype=torch.float64, **options)
    return x, weight, torch.randn(6, dtype=torch.float64, **options)


def linear_inputs(**options) -> tuple[torch.Tensor, ...]:
    x = torch.randn(3, 5, dtype=torch.float64, **options)
    weight = torch.randn(4, 5, dtype=torch.float64, **options)
    return x, weight, torch.randn(4, dtype=torch.float64, **options)


CASES = {
    "conv_update": (conv_inputs, CONV),
    "conv_step_": (conv_inputs, STEP | CONV),
    "linear_update": (linear_inputs, LINEAR),
    "linear_step_": (linear_inputs, STEP | LINEAR),
    "block_forward": (conv_inputs, CONV | BLOCK),
    "block_update": (conv_inputs, CONV | BLOCK),
    "block_step_": (conv_inputs, STEP | CONV | BLOCK),
}
DIFFERENTIABLE = ("conv_update", "linear_update")


@pytest.mark.parametrize("name", schema.OPERATORS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_opcheck(name, with_bias):
    inputs, options = CASES[name]
    x, weight, bias = inputs(requires_grad=name in DIFFERENTIABLE)
    op = getattr(torch.ops.softhebb_fast, name).default
    torch.library.opcheck(op, (x, weight, bias if with_bias else None), options)


@pytest.mark.parametrize("name", schema.OPERATORS)
def test_the_operators_have_the_fields_of_the_options(name):
    found = getattr(torch.ops.softhebb_fast, name).default._schema
    given = " ".join(str(found).replace("SymInt", "int").split())
    outputs = schema.schema(name).split(" -> ")[1]
    outputs = outputs.strip("()") if schema.OPERATORS[name].outputs == 1 else outputs
    assert given == f"softhebb_fast::{schema.schema(name).split(' -> ')[0]} -> {outputs}"
    _, options = CASES[name]
    rule = Rule._fields if schema.OPERATORS[name].outputs > 1 else ()
    assert {a.name for a in found.arguments} == {"x", "weight", "bias", *options, *rule}


@pytest.mark.parametrize("channels_last", [False, True])
def test_fake_outputs_have_the_strides_of_real_ones(channels_last):
    x, weight, bias = conv_inputs()
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    real = torch.ops.softhebb_fast.conv_update(x, weight, bias, **CONV)
    meta = torch.ops.softhebb_fast.conv_update(
        x.to("meta"), weight.to("meta"), bias.to("meta"), **CONV
    )
    assert [t.stride() for t in meta] == [t.stride() for t in real]


@pytest.mark.parametrize("pre_triangle", [False, True])
@pytest.mark.parametrize("lebesgue_p", [2.0, 3.0])
def test_the_gradient_of_u(pre_triangle, lebesgue_p):
    options = CONV | dict(pre_triangle=pre_triangle, lebesgue_p=lebesgue_p)
    inputs = conv_inputs(requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *t: torch.ops.softhebb_fast.conv_update(*t, **options)[0], inputs
    )


def test_the_gradient_of_a_linear_layer():
    inputs = linear_inputs(requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *t: torch.ops.softhebb_fast.linear_update(*t, **LINEAR)[0], inputs
    )


def test_compiled_steps_change_the_weight_alike():
    def step(x, weight):
        u, *_ = torch.ops.softhebb_fast.conv_step_(x, weight, None, **STEP, **CONV)
        return u.sin()

    x, weight, _ = conv_inputs()
    twin = weight.clone()
    expected = step(x, weight)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, twin), expected)
    assert torch.equal(twin, weight)


def test_a_step_is_seen_by_autograd():
    x, weight, _ = conv_inputs()
    version = weight._version
    torch.ops.softhebb_fast.conv_step_(x, weight, None, **STEP, **CONV)
    assert weight._version == version + 1


WITHOUT = """
import pathlib, sys
exists = pathlib.Path.exists
pathlib.Path.exists = lambda self, **o: self.suffix != ".so" and exists(self, **o)
import torch
from softhebb_fast import backends, extension, functional
from tests.ops.test_ops import CASES
assert "not built" in extension.MISSING
assert backends.choose("cpu") == "reference"
try:
    functional.softhebb_linear(torch.ones(1, 2), torch.ones(3, 2), backend="cpp")
except RuntimeError as error:
    assert "not built" in str(error)
else:
    raise SystemExit("backend='cpp' ran")
for name, (inputs, options) in CASES.items():
    torch.manual_seed(0)
    x, weight, bias = inputs()
    out = getattr(torch.ops.softhebb_fast, name)(x, weight, bias, **options)
    out = (out,) if isinstance(out, torch.Tensor) else out
    torch.save((*out, weight), f"{sys.argv[1]}/{name}.pt")
"""


def test_without_the_extension_the_operators_run_on_the_reference(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], check=True)
    for name, (inputs, options) in CASES.items():
        torch.manual_seed(0)
        x, weight, bias = inputs()
        out = getattr(torch.ops.softhebb_fast, name)(x, weight, bias, **options)
        out = (out,) if isinstance(out, torch.Tensor) else out
        for actual, expected in zip(
            (*out, weight), torch.load(tmp_path / f"{name}.pt"), strict=True
        ):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
