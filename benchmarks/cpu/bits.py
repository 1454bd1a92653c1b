"""The bits of the public calls: recorded at one commit, compared with those of another.

    python -m benchmarks.cpu.bits record before.json     # some minutes
    python -m benchmarks.cpu.bits compare before.json after.json

For a change that must leave every number alone. Options, sizes, dtypes and memory layouts are drawn
from a seed. Every case keeps a digest of what it computes, by place and not by name. Digests hold
for one machine and one version of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
WTA = ("soft_anti", "soft", "hard", "hard_anti")
DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = ("contiguous", "channels_last", "sliced", "flipped")
PRECISIONS = tuple(p for p in ("ieee", "bf16x3") if why_not(p, "cpu") is None)
WINOGRAD = "SOFTHEBB_FAST_WINOGRAD"
DRAWS = 260  # of every kind of call
Found = Iterator[tuple[str, object]]


def record() -> dict[str, str]:
    """A digest of every case, by its name."""
    torch.set_num_threads(2)
    kinds = (convolutions, learning_3x3, linears, sequences, components, layers, starts, networks)
    found = {}
    for kind in (*kinds, runs):
        torch.manual_seed(0)
        for name, result in kind():
            found[f"{kind.__name__}/{name}"] = digest(result)
    return found


def digest(result: object) -> str:
    """Of all tensors and plain values in a nest of tuples, lists and dicts."""
    whole = hashlib.blake2b(digest_size=12)

    def feed(value: object) -> None:
        if isinstance(value, Tensor):
            whole.update(f"{value.dtype} {tuple(value.shape)} {value.stride()}".encode())
            plain = value.detach().contiguous().reshape(-1)
            whole.update(plain.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key, one in value.items():
                whole.update(str(key).encode())
                feed(one)
        elif isinstance(value, tuple | list):
            whole.update(f"[{len(value)}".encode())
            for one in value:
                feed(one)
        else:
            whole.update(repr(value).encode())

    feed(result)
    return whole.hexdigest()


def convolutions() -> Found:
    """The convolution, its step in place, and the block in its three ways."""
    for number in range(DRAWS):
        draw = random.Random(number)
        x, w, bias = tensors(draw)
        options, epilogue = drawn_options(draw, x, w), drawn_epilogue(draw)
        rates = {"lr": 0.3, "lr_power": draw.choice([0.0, 0.5, 0.75])}
        for backend, precision in product(BACKENDS, PRECISIONS):
            if backend == "reference" and precision != "ieee":
                continue
            said, where = {**options, "backend": backend}, f"{number}/{backend}/{precision}"
            with environment({VARIABLE: precision if backend == "cpp" else None}):
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
            with environment({VARIABLE: precision, WINOGRAD: winograd}):
                yield f"{where}/update", own.softhebb_conv2d(*given, **options)
                epilogue = Epilogue(True, 0.7, "max", (4, 4), (2, 2), (1, 1))
                block = {"update": "in_place", "lr": 0.1, **options}
                yield f"{where}/block", stepped_block(*given, None, epilogue, **block)


def linears() -> Found:
    for number in range(DRAWS):
        draw = random.Random(10_000 + number)
        dtype, batch = draw.choice(DTYPES), draw.choice([1, 3, 32, 257])
        features, neurons = draw.choice([1, 7, 64, 300]), draw.choice([2, 10, 65, 513])
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(batch, features, generator=generator).to(dtype)
        x = x.t().contiguous().t() if draw.random() < 0.3 else x
        w = (torch.randn(neurons, features, generator=generator) / 4).to(dtype)
        w[draw.randrange(neurons)] = w[0]
        bias = torch.randn(neurons, generator=generator).to(dtype) if draw.random() < 0.4 else None
        options = drawn_competition(draw, neurons)
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
        options = drawn_competition(draw, neurons // groups)
        options |= {"stride": draw.choice([1, 2]), "padding": draw.choice([0, 2]), "groups": groups}
        options |= {"dilation": draw.choice([1, 2])}
        for backend in BACKENDS:
            yield f"{number}/{backend}", own.softhebb_conv1d(x, w, backend=backend, **options)


def components() -> Found:
    for number in range(DRAWS):
        draw = random.Random(30_000 + number)
        x, w, _ = tensors(draw)
        options = drawn_options(draw, x, w)
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
        options = drawn_competition(draw, neurons // groups)
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


def tensors(draw: random.Random) -> tuple[Tensor, Tensor, Tensor | None]:
    """An image batch, filters and perhaps a bias; some filters are equal, some values are not
    finite."""
    dtype, groups = draw.choice(DTYPES), draw.choice([1, 1, 1, 2, 3])
    channels, neurons = groups * draw.choice([1, 2, 3, 16]), groups * draw.choice([2, 5, 33, 96])
    rows, columns = draw.choice([(1, 1), (3, 3), (3, 3), (5, 5), (2, 3)])
    shape = draw.choice([0, 1, 2, 5]), channels, draw.choice([8, 11, 16]), draw.choice([8, 13, 16])
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
    x = laid_out(torch.randn(shape, generator=generator).to(dtype), draw.choice(LAYOUTS))
    w = torch.randn(neurons, channels // groups, rows, columns, generator=generator) / 3
    w = w.to(dtype)
    if draw.random() < 0.3:
        w[draw.randrange(neurons)] = w[0]
    w = laid_out(w, draw.choice(LAYOUTS[:2]))
    if draw.random() < 0.05 and x.numel():
        x[0, 0, 0, 0] = draw.choice([float("nan"), float("inf"), 1e30])
    bias = torch.randn(neurons, generator=generator).to(dtype) if draw.random() < 0.4 else None
    return x, w, bias


def laid_out(t: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return t.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        return F.pad(t, (1, 2, 0, 1))[:, :, : t.shape[2], 1 : 1 + t.shape[3]]
    return t.mT.contiguous().mT if layout == "flipped" else t


def drawn_options(draw: random.Random, x: Tensor, w: Tensor) -> dict:
    groups, (rows, columns) = x.shape[1] // w.shape[1], w.shape[2:]
    mode = draw.choice(["reflect", "zeros", "replicate", "circular"])
    dilation = draw.choice([1, 1, 2]) if max(rows, columns) < 5 else 1
    return {
        **drawn_competition(draw, w.shape[0] // groups),
        "stride": draw.choice([1, 1, 2, (2, 1), 3]),
        "padding": draw.choice([0, 1, 2, (1, 2)]),
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
        "pre_triangle": draw.random() < 0.2,
    }


def drawn_competition(draw: random.Random, neurons: int) -> dict:
    return {
        "t_invert": draw.choice([0.5, 1.0, 12.0, 96.0]),
        "wta": draw.choice(WTA),
        "delta": draw.choice([0.1, 2.0, -1.0]),
        "rank": draw.randint(1, min(neurons, 4)),
        "lebesgue_p": draw.choice([2.0, 2.0, 2.0, 1.0, 3.0]),
        "tie_rule": draw.choice(["first", "first", "spread"]),
    }


def drawn_epilogue(draw: random.Random) -> Epilogue:
    kernel, stride, padding = draw.choice(
        [((1, 1), (1, 1), (0, 0)), ((2, 2), (2, 2), (0, 0)), ((2, 2), (1, 2), (1, 0))]
    )
    power = draw.choice([1.0, 0.5, 2.0, 0.7])
    pool = draw.choice(["max", "avg"])
    return Epilogue(draw.random() < 0.7, power, pool, kernel, stride, padding)


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


@contextmanager
def environment(values: dict[str, str | None]) -> Iterator[None]:
    """These variables for a while; None leaves one as it is."""
    values = {name: value for name, value in values.items() if value is not None}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def compare(before: Path, after: Path) -> int:
    """Say which cases differ, or are in one of the files alone; 1 if there are such."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    different = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    print(
        f"{len(old)} and {len(new)} cases, {len(different)} of them differ", *different, sep="\n  "
    )
    return int(bool(different))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("file", type=Path)
    two = commands.add_parser("compare")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.before, options.after)
    found = record()
    options.file.write_text(json.dumps(found, indent=0) + "\n")
    print(f"{len(found)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
