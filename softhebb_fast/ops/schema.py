"""The operators ``torch.ops.softhebb_fast.*``: loaded from the C++ extension or defined in Python.

The extension brings the schemas and the CPU kernels. Without it the same operators are defined on
the reference, so that code that calls them runs anywhere. The Triton kernels are their CUDA (and
ROCm) implementation. Fake kernels and autograd are here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast import reference
from softhebb_fast.checks import output_size
from softhebb_fast.epilogue import Epilogue

CONV = (
    "int[2] stride, int[2] padding, int[2] dilation, int groups, float t_invert, str wta, "
    "float delta, int rank, str padding_mode, bool pre_triangle, float lebesgue_p"
)
LINEAR = "float t_invert, str wta, float delta, int rank, float lebesgue_p"
BLOCK = (
    "bool centre, float power, str pool, int[2] pool_kernel, int[2] pool_stride, "
    "int[2] pool_padding"
)
TIES = '*, str tie_rule="first"'
READ = "Tensor x, Tensor weight, Tensor? bias"
WRITE = "Tensor x, Tensor(a!) weight, Tensor? bias, float lr, float lr_power"
SCHEMAS = {
    "conv_update": f"({READ}, {CONV}, {TIES}) -> (Tensor, Tensor, Tensor)",
    "conv_step_": f"({WRITE}, {CONV}, {TIES}) -> (Tensor, Tensor)",
    "linear_update": f"({READ}, {LINEAR}, {TIES}) -> (Tensor, Tensor, Tensor)",
    "linear_step_": f"({WRITE}, {LINEAR}, {TIES}) -> (Tensor, Tensor)",
    "block_forward": f"({READ}, {CONV}, {BLOCK}, {TIES}) -> Tensor",
    "block_update": f"({READ}, {CONV}, {BLOCK}, {TIES}) -> (Tensor, Tensor, Tensor)",
    "block_step_": f"({WRITE}, {CONV}, {BLOCK}, {TIES}) -> (Tensor, Tensor)",
}
CONV_NAMES = tuple(part.split()[-1] for part in CONV.split(", "))
FUNCTIONS = {"conv_update": "conv2d", "conv_step_": "conv2d_step_", "linear_update": "linear"}
PRE_TRIANGLE = CONV_NAMES.index("pre_triangle")
LINEAR_NAMES = tuple(part.split()[-1] for part in LINEAR.split(", "))


def _load() -> str | None:
    """Load the extension; the reason why it is missing, or None."""
    path = Path(__file__).parents[1] / "_C.so"
    if not path.exists():
        return (
            "the C++ extension was not built; install with a C++ compiler present and "
            "SOFTHEBB_FAST_BUILD=1 pip install --no-build-isolation"
        )
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"the C++ extension does not load, build it anew for this torch: {error}"
    return None


def on(module: str, name: str) -> Callable:
    """The operator ``name`` on a module that has the functions of ``reference``.

    The module is imported at the first call, so that Triton is not before it is needed.
    """
    names = LINEAR_NAMES if name.startswith("linear") else CONV_NAMES
    names = ("lr", "lr_power", *names) if name.endswith("_step_") else names
    function = FUNCTIONS.get(name, name)

    def operator(x, weight, bias, *values, **ties):
        options = dict(zip(names, _pairs(values), strict=False)) | ties
        epilogue = (Epilogue(*_pairs(values[len(names) :])),) if name.startswith("block") else ()
        out = getattr(import_module(module), function)(x, weight, bias, *epilogue, **options)
        if isinstance(out, Tensor):
            return out
        return tuple(weight.new_empty(0) if t is None else t for t in out)

    return operator


def _product(x, weight, stride, padding, dilation, groups, *rest) -> Tensor:
    *_, padding_mode, _, lebesgue_p = rest
    padded = reference.pad(x, tuple(padding), padding_mode)
    wt = reference.lebesgue_weight(weight, lebesgue_p)
    return F.conv2d(padded, wt, None, stride, 0, dilation, groups)


def _pairs(options):
    return (tuple(v) if isinstance(v, (list, tuple)) else v for v in options)


def _fake_u(x, weight, stride, padding, dilation) -> Tensor:
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    shape = (x.shape[0], weight.shape[0], *size)
    return torch.empty(
        shape, dtype=x.dtype, device=x.device, memory_format=suggest_memory_format(x)
    )


def _fake_pooled(x, weight, stride, padding, dilation, kernel, pool_stride, pool_padding) -> Tensor:
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    pooled = output_size(size, kernel, pool_stride, pool_padding, (1, 1))
    layout = torch.contiguous_format if x.device.type == "cpu" else suggest_memory_format(x)
    shape = (x.shape[0], weight.shape[0], *pooled)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def _fake_delta_w(weight: Tensor) -> Tensor:
    return torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)


def _fake_delta_b(weight, bias, wta) -> Tensor:
    learns = bias is not None and wta in ("soft", "soft_anti")
    return weight.new_empty(bias.shape[0] if learns else 0)


def _fake_conv_update(
    x, weight, bias, stride, padding, dilation, groups, t_invert, wta, *_, **ties
):
    u = _fake_u(x, weight, stride, padding, dilation)
    return u, _fake_delta_w(weight), _fake_delta_b(weight, bias, wta)


def _fake_conv_step_(
    x, weight, bias, lr, lr_power, stride, padding, dilation, g, t, wta, *_, **ties
):
    return _fake_u(x, weight, stride, padding, dilation), _fake_delta_b(weight, bias, wta)


def _fake_linear_update(x, weight, bias, t_invert, wta, *_, **ties):
    u = x.new_empty(x.shape[0], weight.shape[0])
    return u, _fake_delta_w(weight), _fake_delta_b(weight, bias, wta)


def _fake_linear_step_(x, weight, bias, lr, lr_power, t_invert, wta, *_, **ties):
    return x.new_empty(x.shape[0], weight.shape[0]), _fake_delta_b(weight, bias, wta)


def _fake_block_forward(x, weight, bias, stride, padding, dilation, *options, **ties):
    return _fake_pooled(x, weight, stride, padding, dilation, *options[-3:])


def _fake_block_update(
    x, weight, bias, stride, padding, dilation, groups, t, wta, *options, **ties
):
    out = _fake_pooled(x, weight, stride, padding, dilation, *options[-3:])
    return out, _fake_delta_w(weight), _fake_delta_b(weight, bias, wta)


def _fake_block_step_(x, weight, bias, lr, lr_power, *options, **ties):
    stride, padding, dilation, _, _, wta, *_ = options
    out = _fake_pooled(x, weight, stride, padding, dilation, *options[-3:])
    return out, _fake_delta_b(weight, bias, wta)


def _save(ctx, inputs, keyword_only_inputs, output):
    x, weight, _, *ctx.options = inputs
    ctx.save_for_backward(x, weight, output[0])


def _conv_gradients(ctx, grad_u, *_):
    if ctx.options[PRE_TRIANGLE]:
        grad_u = grad_u * (ctx.saved_tensors[2] > 0)
        grad_u = grad_u - grad_u.mean(dim=1, keepdim=True)
    return _gradients(ctx, grad_u, lambda x, weight: _product(x, weight, *ctx.options))


def _linear_gradients(ctx, grad_u, *_):
    def product(x, weight):
        return F.linear(x, reference.lebesgue_weight(weight, ctx.options[-1]))

    return _gradients(ctx, grad_u, product)


def _gradients(ctx, grad_u, product):
    """Gradients of x, weight and bias: the product is linear in x, its graph is built here."""
    needed = [i for i in (0, 1) if ctx.needs_input_grad[i]]
    grads = dict.fromkeys(range(3 + len(ctx.options)))
    if needed:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors[:2]]
            found = torch.autograd.grad(product(*leaves), [leaves[i] for i in needed], grad_u)
        grads |= zip(needed, found, strict=True)
    if ctx.needs_input_grad[2]:
        grads[2] = grad_u.transpose(0, 1).flatten(1).sum(dim=1)
    return tuple(grads.values())


MISSING = _load()

_library = torch.library.Library("softhebb_fast", "FRAGMENT")
for _name, _schema in SCHEMAS.items():
    if MISSING is not None:
        _library.define(_name + _schema)
        _library.impl(_name, on("softhebb_fast.reference", _name), "CompositeExplicitAutograd")
    _library.impl(_name, on("softhebb_fast.kernels", _name), "CUDA")
    torch.library.register_fake(
        f"softhebb_fast::{_name}", globals()[f"_fake_{_name}"], lib=_library
    )
torch.library.register_autograd(
    "softhebb_fast::conv_update", _conv_gradients, setup_context=_save, lib=_library
)
torch.library.register_autograd(
    "softhebb_fast::linear_update", _linear_gradients, setup_context=_save, lib=_library
)

call = torch.ops.softhebb_fast

# Outside SCHEMAS: it is the extension's alone, and a plain expression does without it.
DROPOUT = MISSING is None and hasattr(call, "dropout")
if DROPOUT:
    torch.library.register_fake(
        "softhebb_fast::dropout", lambda x, p, seed: x.new_empty(x.shape), lib=_library
    )
    torch.library.register_autograd(
        "softhebb_fast::dropout",
        lambda ctx, grad: (call.dropout(grad, *ctx.drawn), None, None),
        setup_context=lambda ctx, inputs, output: setattr(ctx, "drawn", inputs[1:]),
        lib=_library,
    )
