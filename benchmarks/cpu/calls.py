"""Public calls with drawn options: names of cases, and all that each computes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

from benchmarks.cpu import draws
from softhebb_fast import SoftHebbBlock, SoftHebbConv1d, SoftHebbConv2d, SoftHebbLinear, init
from softhebb_fast import functional as own
from softhebb_fast.functional import Epilogue
from softhebb_fast.models import build
from softhebb_fast.precision import VARIABLE, why_not
from softhebb_fast.presets import PRESETS
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.trainer import Trainer

WAYS = {"none": None, "direction": "delta_w", "in_place": "in_place"}  # in which a block may learn
BACKENDS = ("cpp", "reference")
PRECISIONS = tuple(p for p in ("ieee", "bf16x3") if why_not(p, "cpu") is None)
WINOGRAD = "SOFTHEBB_FAST_WINOGRAD"
DRAWS = 260  # of every kind of call
Found = Iterator[tuple[str, object]]


def convolutions() -> Found:
    """The convolution, its step in place, and the block in its three ways."""
    for number in range(DRAWS):
        draw = random.Random(number)
        x, w, bias = draws.tensors(draw)
        options, epilogue = draws.convolution(draw, x, w), draws.epilogue(draw)
        rates = {"lr": 0.3, "lr_power": draw.choice([0.0, 0.5, 0.75])}
        for backend, precision in product(BACKENDS, PRECISIONS):
            if backend == "reference" and precision != "ieee":
                continue
            said, where = {**options, "backend": backend}, f"{number}/{backend}/{precision}"
            with draws.environment({VARIABLE: precision if backend == "cpp" else None}):
                yield f"{where}/update", own.softhebb_conv2d(x, w, bias, **said)
                yield (
                    f"{where}/step",
                    stepped(own.softhebb_conv2d_step_, x, w, bias, **rates, **said),
                )
                yield f"{where}/gradient", gradients(own.softhebb_conv2d, x, w, bias, **said)
                for way, update in WAYS.items():
                    block = {"update": update, **(rates if way == "in_place" else {}), **said}
                    yield f"{where}/block-{way}", stepped_block(x, w, bias, epilogue, **block)


def learning_3x3() -> Found:
    """Convolutions large enough for panels, with and without Winograd, and for bf16x3."""
    sizes = ((2, 32, 16, 64), (3, 33, 9, 96), (10, 96, 16, 384), (2, 384, 8, 400), (1, 64, 50, 70))
    for (batch, channels, side, neurons), wta, dtype in product(
        sizes, ("soft_anti", "hard_anti"), (torch.float32, torch.bfloat16)
    ):
        generator = torch.Generator().manual_seed(side)
        x = torch.randn(batch, channels, side, side, generator=generator).to(dtype)
        w = (torch.randn(neurons, channels, 3, 3, generator=generator) / 4).to(dtype)
        for winograd, precision, last in product(("auto", "0", "1"), PRECISIONS, (False, True)):
            layout = torch.channels_last if last else torch.contiguous_format
            given = x.to(memory_format=layout), w.to(memory_format=layout)
            options = {"padding": 1, "wta": wta, "t_invert": 2.0, "backend": "cpp"}
            where = (
                f"{batch}x{channels}x{side}x{neurons}/{wta}/{dtype}/{winograd}/{precision}/{last}"
            )
            with draws.environment({VARIABLE: precision, WINOGRAD: winograd}):
                yield f"{where}/update", own.softhebb_conv2d(*given, **options)
                epilogue = Epilogue(True, 0.7, "max", (4, 4), (2, 2), (1, 1))
                block = {"update": "in_place", "lr": 0.1, **options}
                yield f"{where}/block", stepped_block(*given, None, epilogue, **block)


def linears() -> Found:
    for number in range(DRAWS):
        draw = random.Random(10_000 + number)
        dtype, batch = draw.choice(draws.DTYPES), draw.choice([1, 3, 32, 257])
        features, neurons = draw.choice([1, 7, 64, 300]), draw.choice([2, 10, 65, 513])
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(batch, features, generator=generator).to(dtype)
        x = x.t().contiguous().t() if draw.random() < 0.3 else x
        w = (torch.randn(neurons, features, generator=generator) / 4).to(dtype)
        w[draw.randrange(neurons)] = w[0]
        bias = torch.randn(neurons, generator=generator).to(dtype) if draw.random() < 0.4 else None
        options = draws.competition(draw, neurons)
        for backend in BACKENDS:
            said, where = {**options, "backend": backend}, f"{number}/{backend}"
            yield f"{where}/update", own.softhebb_linear(x, w, bias, **said)
            yield f"{where}/step", stepped(own.softhebb_linear_step_, x, w, bias, lr=0.2, **said)
            yield f"{where}/gradient", gradients(own.softhebb_linear, x, w, bias, **said)


def sequences() -> Found:
    for number in range(60):
        draw = random.Random(20_000 + number)
        channels, neurons, taps = (
            draw.choice([1, 4, 6]),
            draw.choice([2, 12, 66]),
            draw.choice([1, 3, 5]),
        )
        groups = draw.choice([g for g in (1, 2) if channels % g == neurons % g == 0])
        x = torch.randn(draw.choice([1, 4]), channels, draw.choice([16, 31]))
        w = torch.randn(neurons, channels // groups, taps)
        options = draws.competition(draw, neurons // groups)
        options |= {"stride": draw.choice([1, 2]), "padding": draw.choice([0, 2]), "groups": groups}
        options |= {"dilation": draw.choice([1, 2])}
        for backend in BACKENDS:
            yield f"{number}/{backend}", own.softhebb_conv1d(x, w, backend=backend, **options)


def components() -> Found:
    for number in range(DRAWS):
        draw = random.Random(30_000 + number)
        x, w, _ = draws.tensors(draw)
        options = draws.convolution(draw, x, w)
        geometry = ("stride", "padding", "dilation", "groups", "padding_mode")
        where = {name: options[name] for name in geometry}
        u = own.softhebb_conv2d(x, w, None, **options, backend="reference")[0].detach()
        said = {n: options[n] for n in ("t_invert", "wta", "groups", "delta", "rank", "tie_rule")}
        y = own.soft_wta(u, **said)
        yield f"{number}/soft_wta", y
        yield f"{number}/overwrite", own.soft_wta(u, **said, overwrite=True)
        direction = own.hebbian_update(x, y, u, w, **where)
        yield f"{number}/update", direction
        yield f"{number}/rate", own.norm_dependent_rate(w, 0.3, 0.5, options["lebesgue_p"])
        yield f"{number}/step", own.hebbian_step_(w.clone(), direction, 0.3)
        said = {n: options[n] for n in ("t_invert", "wta", "groups", "tie_rule")}
        yield f"{number}/statistics", own.competition_statistics(u, **said)


def layers() -> Found:
    """Modules that learn for three batches, and what they compute afterwards."""
    for number in range(DRAWS):
        draw = random.Random(40_000 + number)
        groups = draw.choice([1, 1, 2, 3])
        channels, neurons = groups * draw.choice([1, 2, 5]), groups * draw.choice([4, 20])
        options = draws.competition(draw, neurons // groups)
        options |= {"bias": draw.random() < 0.4, "lr": 0.1, "lr_power": draw.choice([0.0, 0.5])}
        options |= {"update": draw.choice(["grad", "in_place"]), "radius": draw.choice([1.0, 25.0])}
        options |= {"init": draw.choice(["normal", "positive", "zerO", "random_binary"])}
        options |= {"backend": draw.choice(BACKENDS)}
        torch.manual_seed(number)
        kind = draw.choice(["conv", "block", "sequence", "linear"])
        if kind == "linear":
            module, shape = SoftHebbLinear(40, neurons, **options), (6, 40)
        elif kind == "sequence":
            module = SoftHebbConv1d(channels, neurons, 5, 1, 2, 1, groups, **options)
            shape = (3, channels, 20)
        else:
            options |= {"pre_triangle": draw.random() < 0.2}
            geometry = (channels, neurons, 3, draw.choice([1, 2]), draw.choice([0, 1]), 1, groups)
            shape = (4, channels, 14, 11)
            if kind == "conv":
                module = SoftHebbConv2d(*geometry, **options)
            else:
                pool = draw.choice(
                    [None, nn.MaxPool2d(2, 2), nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(4, 2, 1)]
                )
                module = SoftHebbBlock(*geometry, pool=pool, **options)
        found = [module.extra_repr()]
        for _ in range(3):
            x = torch.randn(shape, requires_grad=draw.random() < 0.3)
            out = module(x)
            if x.requires_grad:
                out.square().sum().backward()
            found += [out, x.grad, [p.grad for p in module.parameters()]]
        found += [dict(module.state_dict()), module.eval()(torch.randn(shape))]
        yield f"{number}/{kind}", found


def starts() -> Found:
    shapes = ((7, 3, 3, 3), (16, 4, 5, 5), (12, 12), (40, 6, 1, 3))
    for name, shape, seed in product(init.INITS, shapes, range(2)):
        for more in ({}, {"noise": 0.1}):
            w, bias = torch.zeros(shape), torch.zeros(shape[0])
            generator = torch.Generator().manual_seed(seed)
            try:
                init.initialise(w, bias, {"name": name, **more}, radius=3.0, generator=generator)
            except ValueError as error:
                yield f"{name}/{shape}/{seed}/{len(more)}", str(error)
            else:
                yield f"{name}/{shape}/{seed}/{len(more)}", (w, bias)


def networks() -> Found:
    for name, preset in PRESETS.items():
        shape = (3, 96, 96) if "STL" in name else (3, 160, 160) if "ImNet" in name else (3, 32, 32)
        torch.manual_seed(1)
        try:
            net = build(preset, shape, 10)
        except ValueError as error:
            yield name, str(error)
            continue
        yield f"{name}/start", [preset.describe(), dict(net.state_dict())]
        if "ImNet" not in name and sum(p.numel() for p in net.parameters()) < 3e7:
            yield f"{name}/learning", [net.train()(torch.rand(2, *shape)), dict(net.state_dict())]


def runs() -> Found:
    for backend, mode, tie_rule in product(
        BACKENDS, ("successive", "consecutive", "simultaneous"), ("first", "spread")
    ):
        config = RunConfig(
            "DemoMNIST",
            "mnist",
            mode=mode,
            backend=backend,
            tie_rule=tie_rule,
            limit=300,
            probe_epochs=2,
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(config, folder)
            trainer.run()
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.rows]
        yield f"{backend}/{mode}/{tie_rule}", [rows, dict(trainer.net.state_dict())]


def stepped(step, x: Tensor, w: Tensor, bias: Tensor | None, **options) -> list:
    w = w.clone()
    return [*step(x, w, bias, **options), w]


def stepped_block(x: Tensor, w: Tensor, bias: Tensor | None, epilogue: Epilogue, **options) -> list:
    w = w.clone()
    return [*own.softhebb_block(x, w, epilogue, bias, **options), w]


def gradients(call, *given: Tensor | None, **options) -> list:
    """Of u squared, in x, weight and bias."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in given]
    u = call(*leaves, **options)[0]
    found = torch.autograd.grad(u.float().square().sum(), [t for t in leaves if t is not None])
    return list(found)


KINDS = (
    convolutions,
    learning_3x3,
    linears,
    sequences,
    components,
    layers,
    starts,
    networks,
    runs,
)
