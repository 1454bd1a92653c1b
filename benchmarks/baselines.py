"""The steps that the native one is measured against, and the check that they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import fused, precision

LR_POWER = 0.5


@dataclass(frozen=True)
class Layer:
    """A block: weight shape, padding, inverse temperature, rate, Triangle's power, pooling.

    A linear layer is its matrix product alone.
    """

    weight: tuple[int, ...]
    padding: int
    t: float
    lr: float
    power: float
    pool: str = ""
    kernel: int = 1
    stride: int = 1
    pool_padding: int = 0

    @property
    def is_linear(self) -> bool:
        return len(self.weight) == 2


class Net:
    """Layers with weights; batch statistics are taken anew at every step."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self.layers = layers
        generator = torch.Generator().manual_seed(1)
        self.weights = []
        for layer in layers:
            weight = torch.randn(layer.weight, generator=generator)
            self.weights.append(weight * (25 / weight[0].numel() ** 0.5))

    def step(self, x: Tensor, block: Callable) -> list[Tensor]:
        outputs = []
        with torch.no_grad():
            for layer, weight in zip(self.layers, self.weights, strict=True):
                if not layer.is_linear:
                    x = F.batch_norm(x, None, None, training=True)
                x = block(layer, x, weight)
                outputs.append(x)
        return outputs


def rate(layer: Layer, weight: Tensor) -> Tensor:
    norm = weight.flatten(1).norm(dim=1)
    shape = (-1, *[1] * (weight.dim() - 1))
    return (layer.lr * ((norm - 1).abs() + 1e-10) ** LR_POWER).view(shape)


def activate_and_pool(layer: Layer, u: Tensor) -> Tensor:
    if layer.is_linear:
        return u
    a = F.relu(u - u.mean(dim=1, keepdim=True))
    a = a if layer.power == 1 else a**layer.power
    pool = F.max_pool2d if layer.pool == "max" else F.avg_pool2d
    return pool(a, layer.kernel, layer.stride, layer.pool_padding)


def published_block(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The passes of the published networks: y on the transpose, the update as a convolution
    of the padded input with a kernel as large as the map."""
    x = x if layer.is_linear else F.pad(x, (layer.padding,) * 4, "reflect")
    u = F.linear(x, weight) if layer.is_linear else F.conv2d(x, weight)
    flat = u.transpose(0, 1).reshape(u.shape[1], -1)
    y = torch.softmax(layer.t * flat, dim=0)
    winner = flat.argmax(dim=0)
    position = torch.arange(winner.numel())
    y = -y
    y[winner, position] = -y[winner, position]
    y = y.view(u.shape[1], u.shape[0], *u.shape[2:]).transpose(0, 1)
    if layer.is_linear:
        yx, yu = y.t() @ x, (y * u).sum(dim=0).view(-1, 1)
    else:
        yx = F.conv2d(x.transpose(0, 1), y.transpose(0, 1)).transpose(0, 1)
        yu = (y * u).sum(dim=(0, 2, 3)).view(-1, 1, 1, 1)
    d = yx - yu.expand_as(weight) * weight
    weight += rate(layer, weight) * (d / (d.abs().amax() + 1e-30))
    return activate_and_pool(layer, u)


def tuned_block(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The fewest passes that eager PyTorch allows."""
    x = x if layer.is_linear else F.pad(x, (layer.padding,) * 4, "reflect")
    u = F.linear(x, weight) if layer.is_linear else F.conv2d(x, weight)
    y = torch.softmax(layer.t * u, dim=1).neg_()
    winner = u.argmax(dim=1, keepdim=True)
    y.scatter_(1, winner, -y.gather(1, winner))
    if layer.is_linear:
        yx = y.t() @ x
    else:
        yx = torch.ops.aten.convolution_backward(
            y, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
        )[1]
    rows, sums = weight.flatten(1), yx.flatten(1)
    yu = torch.linalg.vecdot(rows, sums).unsqueeze(1)
    d = torch.addcmul(sums, rows, yu, value=-1)
    largest = torch.linalg.vector_norm(d, float("inf")) + 1e-30
    rows.addcmul_(d, rate(layer, rows) / largest)
    return activate_and_pool(layer, u)


def native_block(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    competition = dict(t_invert=layer.t, wta="soft_anti", delta=2.0, rank=3, lebesgue_p=2.0)
    step = dict(lr=layer.lr, lr_power=LR_POWER)
    if layer.is_linear:
        return fused.linear_step_(x, weight, None, **step, **competition)[0]
    epilogue = fused.Epilogue(
        True,
        layer.power,
        layer.pool,
        *((n, n) for n in (layer.kernel, layer.stride, layer.pool_padding)),
    )
    geometry = dict(
        stride=(1, 1),
        padding=(layer.padding,) * 2,
        dilation=(1, 1),
        groups=1,
        padding_mode="reflect",
    )
    return fused.block_step_(
        x, weight, None, epilogue, **step, **competition, **geometry, pre_triangle=False
    )[0]


def split_block(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    with precision.use("bf16x3"):
        return native_block(layer, x, weight)


def stepper(block: Callable) -> Callable:
    return lambda net, x: lambda: net.step(x, block)


def compiled(net: Net, x: Tensor) -> Callable:
    torch.compiler.reset()
    step = torch.compile(lambda: net.step(x, tuned_block), fullgraph=True)
    step()
    return step


STEPS: dict[str, Callable] = {
    "published": stepper(published_block),
    "tuned eager": stepper(tuned_block),
    "compiled": compiled,
    "native": stepper(native_block),
}
NATIVE = {"native": native_block}  # what is gated: the largest errors of u and of the step
MOST = {"native": (1e-5, 1e-3), "native bf16x3": (2e-5, 1e-3)}
if precision.why_not("bf16x3", "cpu") is None:
    NATIVE["native bf16x3"] = split_block
    STEPS["native bf16x3"] = stepper(split_block)


def products(layers: tuple[Layer, ...], batch: int) -> dict[str, Callable]:
    """The two matrix products of every layer, each alone on matrices made ready."""
    side, found = 32 if layers[0].weight[1] == 3 else 28, {}
    for i, layer in enumerate(layers):
        neurons = layer.weight[0]
        patch = torch.Size(layer.weight[1:]).numel()
        positions = batch if layer.is_linear else batch * side * side
        x, w, y = (
            torch.randn(positions, patch),
            torch.randn(neurons, patch),
            torch.randn(neurons, positions),
        )
        u, yx = torch.empty(neurons, positions), torch.empty(neurons, patch)
        found[f"product {i + 1} u"] = lambda w=w, x=x, u=u: torch.mm(w, x.t(), out=u)
        found[f"product {i + 1} yx"] = lambda y=y, x=x, yx=yx: torch.mm(y, x, out=yx)
        if not layer.is_linear:
            side = (side + 2 * layer.pool_padding - layer.kernel) // layer.stride + 1
    return found


def gate(name: str, layers: tuple[Layer, ...], x: Tensor) -> None:
    """Stop unless a native step does what the published one does in float64, layer by layer."""
    most_u, most_step = MOST[name]
    with torch.no_grad():
        for layer, weight in zip(layers, Net(layers).weights, strict=True):
            x = x if layer.is_linear else F.batch_norm(x, None, None, training=True)
            exact, native = weight.double(), weight.clone()
            expected = published_block(layer, x.double(), exact)
            out = NATIVE[name](layer, x, native)
            scale = float(expected.abs().max())
            step = float((exact - weight.double()).abs().max())
            u_error = float((out - expected).abs().max()) / scale
            w_error = float((native - exact).abs().max()) / step
            print(f"  {name} {layer.weight}: u within {u_error:.1e}, step within {w_error:.1e}")
            if not (u_error < most_u and w_error < most_step):
                raise SystemExit(f"the step {name!r} is wrong: no times are reported")
            x = expected.float()
