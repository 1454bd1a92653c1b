"""Fake kernels: what an operator gives, without its values, for torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast.checks import conv2d_size, output_size
from softhebb_fast.extension import LIBRARY
from softhebb_fast.ops.schema import OPERATORS, options
from softhebb_fast.options import Competition, Convolution, Epilogue, Rule


def register(name: str) -> None:
    def fake(x: Tensor, weight: Tensor, bias: Tensor | None, *values: Any) -> Any:
        given = {type(option): option for option in options(name, values)}
        outputs = [_map(x, weight, given)]
        if OPERATORS[name].outputs == 1:
            return outputs[0]
        if OPERATORS[name].outputs == 4:
            outputs.append(torch.empty(weight.shape, dtype=weight.dtype, device=weight.device))
        rule, neurons = given[Rule], weight.shape[0]
        learns = bias is not None and given[Competition].soft and rule.learns_bias
        sums = torch.float64 if weight.dtype == torch.float64 else torch.float32
        groups = given[Convolution].groups if Convolution in given else 1
        statistic = (neurons, neurons // groups) if rule.settles else (neurons,)
        return (
            *outputs,
            weight.new_empty(neurons if learns else 0),
            weight.new_empty(statistic if rule.statistic else 0, dtype=sums),
        )

    torch.library.register_fake(f"softhebb_fast::{name}", fake, lib=LIBRARY)


def _map(x: Tensor, weight: Tensor, given: dict[type, Any]) -> Tensor:
    """u, or what a block passes on."""
    if Convolution not in given:
        return x.new_empty(x.shape[0], weight.shape[0])
    size, layout = conv2d_size(x, weight, given[Convolution]), suggest_memory_format(x)
    if Epilogue in given:
        epilogue = given[Epilogue]
        size = output_size(size, epilogue.kernel, epilogue.stride, epilogue.padding)
        layout = torch.contiguous_format if x.device.type == "cpu" else layout
    shape = (x.shape[0], weight.shape[0], *size)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


for _name in OPERATORS:
    register(_name)
torch.library.register_fake(
    "softhebb_fast::dropout", lambda x, p, seed: x.new_empty(x.shape), lib=LIBRARY
)
