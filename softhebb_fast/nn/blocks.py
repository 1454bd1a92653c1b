"""The building block of SoftHebb networks: normalise, convolve and learn, activate, pool."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from softhebb_fast import functional
from softhebb_fast.backends import serves
from softhebb_fast.checks import check_are_tensors
from softhebb_fast.functional import Epilogue
from softhebb_fast.functional.autocast import autocasts
from softhebb_fast.functional.transforms import transforming
from softhebb_fast.init import Init
from softhebb_fast.nn import folding
from softhebb_fast.nn.activations import RePU, Triangle
from softhebb_fast.nn.conv import SoftHebbConv1d, SoftHebbConv2d
from softhebb_fast.nn.hebbian import HebbianConv2d
from softhebb_fast.nn.normalise import bound_after, normalised
from softhebb_fast.nn.plain import heard, plain
from softhebb_fast.nn.recording import check_input, recorded
from softhebb_fast.options import COMPETITION, CONVOLUTION, pair

FUSED = (SoftHebbConv2d, HebbianConv2d)


class Block(nn.Module):
    """``pool(activation(layer(norm(x))))``; every part but the layer may be None.

    Where a native backend computes a ``SoftHebbConv2d`` and no gradient is wanted, layer,
    activation and pool are one pass (``functional.softhebb_block``). Parts of derived classes,
    with a forward of their own or with hooks are called one by one. While it is traced or exported
    a block consists of torch's own operators. A convolution's ``[C, H, W]`` is a batch of one.
    In evaluation mode a ``PatchWhitening`` is folded into the 1x1 convolution behind it.

    Args:
        layer: a SoftHebb layer, or any other module.
        norm: applied to the input.
        activation: applied to what ``layer`` gives.
        pool: applied last.

    Raises ValueError for a pool that returns indices beside the maxima.
    """

    norm: nn.Module | None
    layer: nn.Module
    activation: nn.Module | None
    pool: nn.Module | None

    def __init__(
        self,
        layer: nn.Module,
        *,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if getattr(pool, "return_indices", False):
            raise ValueError(
                "pool must return a tensor; got return_indices=True, which returns a pair"
            )
        self.norm, self.layer, self.activation, self.pool = norm, layer, activation, pool

    def forward(
        self, x: Tensor, *, target: Tensor | None = None, modulator: Tensor | None = None
    ) -> Tensor:
        """What the parts make of ``x``, one after the other.

        ``target`` and ``modulator`` are passed on to a layer that takes them.
        """
        check_input(x)
        given = {} if recorded(x) else _given(target, modulator)
        if _lacks_batch(self.layer, x):
            check_are_tensors(**given)
            given = {name: t.unsqueeze(0) for name, t in given.items()}
            return self._of_batch(x.unsqueeze(0), given).squeeze(0)
        return self._of_batch(x, given)

    def _of_batch(self, x: Tensor, given: dict[str, Tensor]) -> Tensor:
        if recorded(x):
            for part in (self.norm, self.layer, *self._tail()):
                x = x if part is None else part(x)
            return x
        if not given and folding.folds(self.norm, self.layer, x):
            return self._folded(x)
        x, known = self.normalised(x)
        epilogue = self._epilogue()
        taught = not given or getattr(self.layer, "learns", True)  # else it is but checked
        if epilogue is not None and taught and _fuses(self.layer, x):
            return _fused(self.layer, x, epilogue, {**known, **given})
        x = self.layer(x, **given)
        for part in self._tail():
            if part is not None:
                x = part(x)
        return _keep_layout(x)

    def _folded(self, x: Tensor) -> Tensor:
        """The block on images, its whitening inside the layer's filters or done part by part."""
        norm, layer, epilogue = self.norm, self.layer, self._epilogue()
        if epilogue is None or not _fuses(layer, x):
            return self._multiplied(x)
        if norm.contrast is None:
            weight, bias = (t.detach() for t in folding.folded(norm, layer))
            options = folding.options(norm, layer)
            return functional.softhebb_block(x, weight, epilogue, bias, **options).out
        pays = folding.pays(norm, layer)
        parts = [
            self._multiplied(part) if pays else _fused(layer, norm(part), epilogue, {})
            for part in folding.portions(norm, layer, x)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _multiplied(self, x: Tensor) -> Tensor:
        """The folded product of ``x`` and what follows it, part by part."""
        u = folding.product(self.norm, self.layer, x)
        for part in self._tail():
            u = u if part is None else part(u)
        return _keep_layout(u)

    def step_(
        self, x: Tensor, *, target: Tensor | None = None, modulator: Tensor | None = None
    ) -> None:
        """``layer(norm(x))`` of a batch ``x`` for what it learns.

        ``target`` and ``modulator`` are passed on to a layer that takes them.
        """
        given = _given(target, modulator)
        if type(self).forward is not Block.forward or "forward" in self.__dict__ or heard(self):
            self(x, **given)
            return
        x, known = self.normalised(x)
        layer = self.layer
        bounded = known and type(layer) in FUSED and plain(layer)
        if bounded and layer.learns and layer.update == "in_place":
            layer.step_(x, **known, **given)
        else:
            layer(x, **given)

    def normalised(self, x: Tensor) -> tuple[Tensor, dict[str, float]]:
        """``norm(x)``, or x itself without one, and what the layer may know of it."""
        if self.norm is None:
            return x, {}
        bound = bound_after(self.norm, x)
        return normalised(self.norm, x), {} if bound is None else {"x_bound": bound}

    def _tail(self) -> tuple[nn.Module | None, nn.Module | None]:
        """Activation and pool, in the order that is cheaper where both give the same bits."""
        commute = type(self.activation) is nn.ReLU and type(self.pool) is nn.MaxPool2d
        if commute and plain(self.activation, self.pool):
            return self.pool, self.activation
        return self.activation, self.pool

    def _epilogue(self) -> Epilogue | None:
        """Activation and pool in the form that a fused pass takes, or None if it cannot."""
        activation = self.activation
        if activation is None or not plain(self.layer, activation, self.pool):
            return None
        if type(activation) is nn.ReLU:
            epilogue = Epilogue(centre=False)
        elif type(activation) in (Triangle, RePU) and isinstance(activation.power, (int, float)):
            epilogue = Epilogue(type(activation) is Triangle, float(activation.power))
            groups = getattr(activation, "groups", 1)
            if getattr(self.layer, "groups", 1) % groups:
                return None
            epilogue = epilogue._replace(groups=groups)
        else:
            return None
        return epilogue if self.pool is None else _with_pool(epilogue, self.pool)


class SoftHebbBlock(Block):
    """BatchNorm2d(affine=False), SoftHebbConv2d, an activation and a pool, as published.

    Input ``[B, C, H, W]``. All arguments but these, and the errors, are those of
    ``SoftHebbConv2d``: ``in_channels``, ``out_channels``, ``kernel_size``, ``stride``, ``padding``,
    ``dilation``, ``groups``, ``t_invert``, ``padding_mode``, ``wta``, ``bias``, ``init``,
    ``radius``, ``lr``, ``lr_power``, ``schedule``, ``update``, ``rounding``, ``backend``,
    ``device``, ``dtype``, ``delta``, ``rank``, ``pre_triangle``, ``lebesgue_p``, ``tie_rule``,
    ``generator``.

    Args:
        activation: applied to u; ``Triangle()`` if not given.
        pool: applied last, for example ``nn.MaxPool2d(4, 2, 1)``; none if not given.
        batch_norm: normalise the input, with running statistics in evaluation mode.

    Source: Journé et al. 2023 (arXiv 2209.11883), figure 1 and appendix A.
    """

    layer: SoftHebbConv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        t_invert: float = COMPETITION.t_invert,
        *,
        activation: nn.Module | None = None,
        pool: nn.Module | None = None,
        batch_norm: bool = True,
        padding_mode: str = CONVOLUTION.padding_mode,
        wta: str = COMPETITION.wta,
        bias: bool = False,
        init: Init = "normal",
        radius: float = 25.0,
        lr: float | None = None,
        lr_power: float = 0.5,
        schedule: Callable[[int], float] | None = None,
        update: str = "grad",
        rounding: str = "nearest",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        delta: float = COMPETITION.delta,
        rank: int = COMPETITION.rank,
        pre_triangle: bool = CONVOLUTION.pre_triangle,
        lebesgue_p: float = COMPETITION.lebesgue_p,
        tie_rule: str = COMPETITION.tie_rule,
        generator: torch.Generator | None = None,
    ) -> None:
        layer = SoftHebbConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            t_invert,
            padding_mode=padding_mode,
            wta=wta,
            bias=bias,
            init=init,
            radius=radius,
            lr=lr,
            lr_power=lr_power,
            schedule=schedule,
            update=update,
            rounding=rounding,
            backend=backend,
            device=device,
            dtype=dtype,
            delta=delta,
            rank=rank,
            pre_triangle=pre_triangle,
            lebesgue_p=lebesgue_p,
            tie_rule=tie_rule,
            generator=generator,
        )
        norm = nn.BatchNorm2d(layer.in_channels, affine=False, device=device, dtype=dtype)
        super().__init__(
            layer,
            norm=norm if batch_norm else None,
            activation=Triangle() if activation is None else activation,
            pool=pool,
        )


def _given(target: Tensor | None, modulator: Tensor | None) -> dict[str, Tensor]:
    both = {"target": target, "modulator": modulator}
    return {name: tensor for name, tensor in both.items() if tensor is not None}


def _lacks_batch(layer: nn.Module, x: Tensor) -> bool:
    if not isinstance(x, Tensor) or x.dim() == 4:
        return False
    one = isinstance(layer, (SoftHebbConv1d, nn.Conv1d))
    return x.dim() == (2 if one else 3) and isinstance(
        layer, (SoftHebbConv2d, nn.Conv2d, nn.Conv1d)
    )


def _keep_layout(x: Tensor) -> Tensor:
    """``x``, whose gradient shall come in its own memory format: what flattens it gives another,
    which pooling would convert the whole map to."""
    if not isinstance(x, Tensor):
        raise TypeError(f"the parts of a block must return a tensor; got {type(x).__name__}")
    if x.requires_grad and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
    return x


def _with_pool(epilogue: Epilogue, pool: nn.Module) -> Epilogue | None:
    kind = {nn.MaxPool2d: "max", nn.AvgPool2d: "avg"}.get(type(pool))
    if kind is None or pool.ceil_mode:
        return None
    if kind == "max" and (pool.dilation not in (1, (1, 1)) or pool.return_indices):
        return None
    if kind == "avg" and (not pool.count_include_pad or pool.divisor_override is not None):
        return None
    sizes = {"kernel": pool.kernel_size, "stride": pool.stride, "padding": pool.padding}
    try:
        pairs = {name: pair(size, name, 0) for name, size in sizes.items()}
    except TypeError:
        return None
    return epilogue._replace(pool=kind, **pairs)


def _fuses(layer: nn.Module, x: Tensor) -> bool:
    if type(layer) not in FUSED or layer.waits_for_data:
        return False
    native = any(serves(name, layer.backend, x.device) for name in ("cpp", "triton"))
    if not native or autocasts(x.device) or (layer.learns and not layer.steps_at_once):
        return False
    if transforming():
        return False
    if not torch.is_grad_enabled():
        return True
    by_gradient = () if layer.learns else (layer.weight, layer.bias)
    return not any(t is not None and t.requires_grad for t in (x, *by_gradient))


def _fused(layer: SoftHebbConv2d, x: Tensor, epilogue: Epilogue, known: dict[str, float]) -> Tensor:
    weight, bias = layer.detached()
    options, block = {**layer.options(), **known}, functional.softhebb_block
    if type(layer) is HebbianConv2d:
        block = functional.hebbian_block
    if not layer.learns:
        return block(x, weight, epilogue, bias, **options).out
    layer.check_step()
    if layer.update == "grad":
        out = block(x, weight, epilogue, bias, update="delta_w", **options)
        layer.assign(out.delta_w, out.delta_b)
        layer.learned(out, x)
        return out.out
    rates = None if bias is None else layer.learning_rates()
    base = {"lr": layer.base_rate(), "lr_power": layer.lr_power, **layer.step_options()}
    out = block(x, weight, epilogue, bias, update="in_place", **base, **options)
    layer.step_bias_(rates, out.delta_b)
    layer.learned(out, x)
    return out.out
