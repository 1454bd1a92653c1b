"""Where the residual branches of a model end."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
ADDITIONS: tuple[Callable[..., Any] | str, ...]
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
TRANSFORMERS = (nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder, *TRANSFORMER_LAYERS)
ENDS = ("self_attn.out_proj", "multihead_attn.out_proj", "linear2")


def branch_ends(model: nn.Module) -> tuple[set[str], str]:
    """Names of the layers with which residual branches end, and why some may be missing ("").

    Sums are found by tracing the forward pass (`torch.fx`). Of two summands with a common origin
    the branch is the one with more products since then, of equally many the one with more
    operations; it ends with its last product, if only operations on one tensor follow that.
    torch's transformer layers are known and not traced.
    """
    found = {
        f"{name}.{end}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, TRANSFORMER_LAYERS)
        for end in ENDS
        if any(part == end for part, _ in module.named_modules())
    }
    if isinstance(model, TRANSFORMERS):
        return found, ""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever the model's own code raises on tensors without values
        return found, f"its forward pass cannot be traced ({type(error).__name__}: {error})"
    modules = dict(model.named_modules())
    products = {
        node
        for node in graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], PRODUCTS)
    }
    ancestors: dict[fx.Node, set[fx.Node]] = {}
    for node in graph.nodes:
        own = node.all_input_nodes
        ancestors[node] = {node}.union(*(ancestors[n] for n in own))
        if node.target in ADDITIONS and len(own) == 2:
            end = _end(*own, ancestors, products)
            if end is not None:
                found.add(end.target)
    return found, ""


class _Tracer(fx.Tracer):
    """Takes modules without parts for granted, whoever wrote them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(m.children()) or super().is_leaf_module(m, module_qualified_name)


def _end(a: fx.Node, b: fx.Node, ancestors: dict, products: set) -> fx.Node | None:
    own = {a: ancestors[a] - ancestors[b], b: ancestors[b] - ancestors[a]}
    if not ancestors[a] & ancestors[b]:
        return None
    weight = {node: (len(own[node] & products), len(own[node])) for node in (a, b)}
    if weight[a] == weight[b]:
        return None
    node = max(a, b, key=weight.get)
    origin = own[node]
    while node in origin:
        if node in products:
            return node
        if len(node.all_input_nodes) != 1:
            return None
        node = node.all_input_nodes[0]
    return None
