"""The providers: the published code, the fewest passes of PyTorch, and this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from softhebb_fast.bench import classifier, eager, fasthebb, hebbian, phases
from softhebb_fast.bench.cases import FLOAT, Case
from softhebb_fast.bench.inputs import Inputs
from softhebb_fast.bench.provider import Call, Provider
from softhebb_fast.bench.published import PublishedNet
from softhebb_fast.models import SoftHebbNet, build
from softhebb_fast.naming import did_you_mean
from softhebb_fast.presets import Layer, Preset
from softhebb_fast.training.capture import WARM_UP, GraphCapture


def choose(names: Iterable[str] | None) -> list[Provider]:
    """The providers of those names, or all. Raises ValueError for an unknown name."""
    if names is None:
        return list(PROVIDERS.values())
    names = list(names)
    for name in names:
        if name not in PROVIDERS:
            hint = did_you_mean(name, PROVIDERS)
            raise ValueError(f"providers must be among {', '.join(PROVIDERS)}; got {name!r}{hint}")
    return [PROVIDERS[name] for name in names]


def network(case: Case, given: Inputs, backend: str) -> SoftHebbNet:
    """This package's network of the case's layers, which learns into the given weights."""
    head = Layer("linear", "bp", dropout=case.dropout)
    layers = (*(part.layer for part in case.parts), head)
    net = build(Preset(case.network, layers), case.parts[0].shape, case.classes, backend=backend)
    net.to(given.x.device)
    for block, weight in zip(net.blocks, given.weights, strict=True):
        block.layer.weight.data = weight
    return net


def _published(case: Case, given: Inputs) -> Call:
    net = PublishedNet(case.parts, given.weights, case.classes, case.dropout)
    trained = range(len(case.parts))
    return lambda: net.blocks(given.x, trained)


def _published_layer(case: Case, given: Inputs) -> Call:
    net = PublishedNet(case.parts, given.weights, case.classes, case.dropout)
    (layer,) = net.layers

    def call() -> list[Tensor]:
        u = layer(given.x, learn=True)
        layer.update()
        return [u]

    return call


def _tuned(step: Callable) -> Callable[[Case, Inputs], Call]:
    return lambda case, given: lambda: step(case.parts, given.weights, given.x)


def _unfolded(update: fasthebb.Update) -> Callable[[Case, Inputs], Call]:
    def make(case: Case, given: Inputs) -> Call:
        (part,), (weight,) = case.parts, given.weights
        return lambda: [fasthebb.learn(part, given.x, weight, update)]

    return make


def _compiled(step: Callable) -> Callable[[Case, Inputs], Call]:
    def make(case: Case, given: Inputs) -> Call:
        return torch.compile(lambda: step(case.parts, given.weights, given.x), fullgraph=True)

    return make


def _own(backend: str) -> dict[str, Callable[[Case, Inputs], Call]]:
    def layer(case: Case, given: Inputs) -> Call:
        (part,) = case.parts
        if part.rule == "softhebb":
            module = network(case, given, backend).blocks[0].layer.train()
        else:
            module = hebbian.module(part, given.weights[0], given.state, backend)
        return lambda: [module(given.x)]

    def step(case: Case, given: Inputs) -> Call:
        blocks = network(case, given, backend).train().blocks

        def call() -> list[Tensor]:
            x, outputs = given.x, []
            for block in blocks:
                x = block(x)
                outputs.append(x)
            return outputs

        return call

    def phase(make: Callable) -> Callable[[Case, Inputs], Call]:
        def made(case: Case, given: Inputs) -> Call:
            return make(case, given, lambda c, g: network(c, g, backend))

        return made

    return {
        "layer": layer,
        "step": step,
        "probe": classifier.own,
        "learn": phase(phases.learn),
        "features": phase(phases.features),
        "features_of_test": phase(phases.features_of_test),
        "classify": phase(phases.classify),
        "evaluate": phase(phases.evaluate_batch),
    }


def _replayed(make: Callable[[Case, Inputs], Call]) -> Callable[[Case, Inputs], Call]:
    """The calls of ``make``, captured in a CUDA graph as training does with its steps."""

    def made(case: Case, given: Inputs) -> Call:
        step = make(case, given)
        recorder, outputs = GraphCapture(given.x.device), []

        def work() -> None:
            outputs[:] = step()

        before = [weight.clone() for weight in given.weights]
        for _ in range(WARM_UP):
            recorder.launch(work)
        for weight, first in zip(given.weights, before, strict=True):
            weight.copy_(first)
        replay = recorder.record(work)

        def call() -> list[Tensor]:
            replay()
            return outputs

        return call

    return made


def _products(case: Case, given: Inputs) -> Call:
    """The two products of every layer, on matrices made ready."""
    ready = []
    for part, weight in zip(case.parts, given.weights, strict=True):
        positions = case.batch * prod(part.map)
        rows = weight.flatten(1)
        x = torch.randn(positions, part.patch, device=weight.device)
        y = torch.randn(part.layer.out, positions, device=weight.device)
        ready.append((rows, x, y, torch.empty_like(y), torch.empty_like(rows)))

    def call() -> list[Tensor]:
        for rows, x, y, u, yx in ready:
            torch.mm(rows, x.t(), out=u)
            torch.mm(y, x, out=yx)
        return []

    return call


def _library(case: Case, given: Inputs) -> Call:
    """A convolution and its weight gradient for every layer, as torch's library computes them."""
    device, ready = given.x.device, []
    for part, weight in zip(case.parts, given.weights, strict=True):
        x = torch.randn(case.batch, *part.shape, device=device, dtype=weight.dtype)
        x = eager.prepared(part, x, weight)
        ready.append((x, weight, torch.randn_like(eager.product(x, weight))))

    def call() -> list[Tensor]:
        for x, weight, y in ready:
            eager.product(x, weight)
            eager.weight_gradient(x, y, weight)
        return []

    return call


SOFTHEBB = ("softhebb",)
_PUBLISHED = {
    "layer": _published_layer,
    "step": _published,
    "probe": classifier.published,
    "learn": phases.published_learn,
    "classify": phases.published_classify,
    "evaluate": phases.published_evaluate,
}
_PUBLISHED_AS_IT_IS = Provider(
    "published",
    "as published, denormals as they come",
    _PUBLISHED,
    denormals=True,
    memory_factor=1.0,
    rules=SOFTHEBB,
)
_TUNED = Provider(
    "tuned",
    "the fewest passes of eager PyTorch",
    {
        "layer": _tuned(eager.layer),
        "step": _tuned(eager.step),
        "probe": classifier.tuned,
    },
    rules=SOFTHEBB,
)
_CPP = Provider("cpp", "this package, native kernels", _own("cpp"), device="cpu", backend="cpp")
_TRITON = Provider(
    "triton",
    "this package, Triton kernels",
    _own("triton"),
    device="cuda",
    backend="triton",
    layout=torch.channels_last,  # as in training
)
_LIBRARY = Provider(
    "library",
    "torch's convolution and its weight gradient alone",
    {"layer": _library, "step": _library},
    partial=True,
)


def _in_tf32(provider: Provider, **changes) -> Provider:
    name, text = f"{provider.name}-tf32", "the same, products in tf32"
    return replace(provider, name=name, text=text, device="cuda", precision="tf32", **changes)


def _in_graph(provider: Provider) -> Provider:
    makes = {kind: _replayed(provider.makes[kind]) for kind in ("layer", "step")}
    name, text = f"{provider.name}-graph", "the same, replayed from a CUDA graph"
    return replace(provider, name=name, text=text, device="cuda", makes=makes)


def _in_bf16(provider: Provider) -> Provider:
    return replace(
        provider,
        name=f"{provider.name}-bf16",
        text="the same, images, maps and filters in bfloat16",
        layout=torch.channels_last,
        precision="bfloat16",
        dtype=torch.bfloat16,
    )


_GRAPH, _LIBRARY_GRAPH = _in_graph(_TRITON), _in_graph(_LIBRARY)
_ALL = (
    _PUBLISHED_AS_IT_IS,
    Provider(
        "published-flushed",
        "as published, denormals flushed",
        # The other phases have no softmax, and so no denormals.
        {kind: make for kind, make in _PUBLISHED.items() if kind in ("layer", "step", "learn")},
        memory_factor=1.0,
        rules=SOFTHEBB,
    ),
    _in_tf32(_PUBLISHED_AS_IT_IS),
    _TUNED,
    # cuDNN's kernels on tensor cores want the channels last; its others do not
    _in_tf32(_TUNED, layout=torch.channels_last),
    Provider(
        "compiled",
        "the same under torch.compile",
        {"layer": _compiled(eager.layer), "step": _compiled(eager.step)},
        compiles=True,
        rules=SOFTHEBB,
    ),
    Provider(
        "fasthebb",
        "FastHebb's matrix products of unfolded patches, in eager PyTorch",
        {"layer": _unfolded(fasthebb.matrix)},
        memory_factor=1.0,
        rules=fasthebb.RULES,
    ),
    Provider(
        "naive",
        "what every neuron asks for at every position, then the sum",
        {"layer": _unfolded(fasthebb.naive)},
        memory_factor=1.0,
        scratch=4 * FLOAT * fasthebb.MOST,
        most=4 * fasthebb.MOST,
        rules=fasthebb.RULES,
    ),
    _CPP,
    replace(
        _CPP,
        name="cpp-bf16x3",
        text="the same, products as three of bfloat16",
        precision="bf16x3",
    ),
    _TRITON,
    _in_tf32(_TRITON),
    _GRAPH,
    _in_tf32(_GRAPH),
    replace(
        _GRAPH,
        name="triton-graph-bf16x6",
        text="the same, products as six of bfloat16",
        precision="bf16x6",
    ),
    _in_bf16(_GRAPH),
    _LIBRARY,
    _in_tf32(_LIBRARY, layout=torch.channels_last),
    _LIBRARY_GRAPH,
    _in_tf32(_LIBRARY_GRAPH, layout=torch.channels_last),
    _in_bf16(_LIBRARY_GRAPH),
    Provider(
        "products",
        "the bare matrix products, matrices made ready",
        {"layer": _products, "step": _products},
        partial=True,
    ),
)
PROVIDERS = {provider.name: provider for provider in _ALL}
