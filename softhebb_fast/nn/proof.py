"""Whether a SoftHebb layer computes what another layer does: both are tried on random inputs."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.linear import SoftHebbLinear
from softhebb_fast.nn.unkept import TORCHS

# Of the largest value: some roundings of the sum, whose terms may come in another order.
ROUNDING = {
    torch.float64: 1e-13,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
UPDATE_ROUNDING = 1e-3
MOST_SIZES = 4


def refutation(
    module: nn.Module, layer: HebbianLayer, twins: list[HebbianLayer], training: bool
) -> str | None:
    """Why ``layer``, which shares the tensors of ``module``, is not proved to do the same, or None.

    In evaluation mode both must agree on inputs of several sizes. A module whose class is not
    torch's is tried as a copy, with its own weight and with a random one, and what its forward
    learns must be what that of one of the ``twins`` learns. Neither the module nor any generator
    of random numbers is changed.
    """
    device = layer.weight.device
    foreign = type(module) not in TORCHS
    if device.type == "meta" and foreign:
        return "its weight is on the meta device and has no values to compare"
    with _generators_kept(device), autocast_disabled(device):
        try:
            if not foreign:
                return _unlike(module, layer.eval())
            return _unlike(_copy(module), layer.eval()) or _refuted_at_random(module, layer, twins)
        except Exception as error:
            return f"its trial fails with {type(error).__name__}: {error}"
        finally:
            layer.train(training)


def _refuted_at_random(
    module: nn.Module, layer: HebbianLayer, twins: list[HebbianLayer]
) -> str | None:
    """The same with a random weight and without low precision, in both modes."""
    dtype = torch.float64 if layer.weight.dtype == torch.float64 else torch.float32
    old, generator = _copy(module).to("cpu", dtype), torch.Generator().manual_seed(1)
    if isinstance(t := vars(old).get("t_invert"), Tensor):
        old.t_invert = t.cpu()
    weight = torch.randn(layer.weight.shape, generator=generator, device="cpu", dtype=dtype)
    weight /= max(1, weight[0].numel()) ** 0.5
    with torch.no_grad():
        old.weight.copy_(weight)
    new, *twins = (_on(each, weight, old).eval() for each in (layer, *twins))
    return _unlike(old, new) or _learns_otherwise(old, twins)


def _learns_otherwise(old: nn.Module, twins: list[HebbianLayer]) -> str | None:
    x, before = next(_probes(twins[0])), {n: t.clone() for n, t in old.state_dict().items()}
    old.train()
    for tensor in (old.weight, old.bias) if _has_bias(old) else (old.weight,):
        tensor.grad = None
    with torch.enable_grad():
        u = old.forward(x.clone())
    if any(not torch.equal(t, before[n]) for n, t in old.state_dict().items()):
        return "its forward changes its weight or bias"
    if _has_bias(old) and old.bias.grad is not None:
        return "its bias learns by a rule of its own"
    if reason := _unequal(u, twins[0].forward(x), "in training mode its output"):
        return reason
    grad = old.weight.grad
    if grad is None:
        return None
    if isinstance(old.weight, nn.Parameter) and not old.weight.requires_grad:
        return "its forward learns although its weight is frozen, which the new layer's would not"
    updates = [twin.hebbian_update(x).delta_w for twin in twins]
    reasons = [_unequal(grad, update, "its update", UPDATE_ROUNDING) for update in updates]
    return None if None in reasons else reasons[0]


def _unlike(old: nn.Module, new: HebbianLayer) -> str | None:
    """How the outputs differ in evaluation mode, if they do. Hooks are not called."""
    for x in _probes(new):
        with torch.no_grad():
            given = x.clone()
            reason = _unequal(old.forward(given), new.forward(x), "its output")
        if reason is not None:
            return reason
        if not x.is_meta and not torch.equal(given, x):
            return "its forward changes its input"
    return None


def _unequal(old: object, new: Tensor, what: str, rounding: float | None = None) -> str | None:
    if not isinstance(old, Tensor):
        return f"{what} is a {type(old).__name__}, not a tensor"
    for name in ("shape", "dtype", "device"):
        has, should = getattr(old, name), getattr(new, name)
        if has != should:
            has, should = (tuple(v) if name == "shape" else v for v in (has, should))
            return f"{what} has the {name} {has}, the product's has {should}"
    if new.is_meta:
        return None
    has, should = old.detach().double(), new.detach().double()
    finite = should[should.isfinite()]
    bound = (rounding or ROUNDING[new.dtype]) * float(finite.abs().max() if len(finite) else 0)
    if torch.allclose(has, should, rtol=0, atol=bound, equal_nan=True):
        return None
    error = (has - should)[should.isfinite()].abs()
    other = "product" if rounding is None else "new layer"
    return f"{what} differs from the {other}'s by {float(error.max() if len(error) else 0):.2g}"


def _probes(layer: HebbianLayer) -> Iterator[Tensor]:
    """Random inputs, the second and later ones ten times as large."""
    generator, like = torch.Generator().manual_seed(0), layer.weight
    for i, shape in enumerate(_shapes(layer)):
        x = torch.randn(shape, generator=generator, device="cpu") * (10 if i else 1)
        yield x.to(like.device, like.dtype)


def _shapes(layer: HebbianLayer) -> Iterator[tuple[int, ...]]:
    """Of a convolution the first fits its stride, then comes every remainder, up to some."""
    if isinstance(layer, SoftHebbLinear):
        yield from ((5, layer.in_features), (2, 3, layer.in_features))
        return
    padding = (0, 0) if layer.padding == "same" else layer.padding
    spans = zip(layer.kernel_size, layer.stride, padding, layer.dilation, strict=True)
    fitting = (_fitting(d * (k - 1) + 1 - 2 * p, s, p + 2) for k, s, p, d in spans)
    (rows, _), (_, columns) = fitting
    for i in range(1 + min(max(layer.stride), MOST_SIZES)):
        yield 2 + i % 2, layer.in_channels, rows + i, columns + i


def _fitting(smallest: int, stride: int, least: int) -> tuple[int, int]:
    """Two sizes of at least ``least`` that are whole strides, two or more, above the smallest."""
    size = smallest + stride * max(2, -(-(least - smallest) // stride))
    return size, size + stride


def _copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval()


def _on(layer: HebbianLayer, weight: Tensor, old: nn.Module) -> HebbianLayer:
    """A copy of ``layer`` with another weight, and the bias of ``old``."""
    layer = copy.copy(layer)
    bias = nn.Parameter(old.bias.detach()) if _has_bias(old) else None
    layer._parameters = {"weight": nn.Parameter(weight), "bias": bias}
    return layer


def _has_bias(module: nn.Module) -> bool:
    return isinstance(getattr(module, "bias", None), Tensor)


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """Give all generators that a forward may draw from their states back."""
    numpy, state = sys.modules.get("numpy"), random.getstate()
    numpys = None if numpy is None else numpy.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(state)
            if numpy is not None:
                numpy.random.set_state(numpys)
