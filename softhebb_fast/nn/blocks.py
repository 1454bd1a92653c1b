"""The building block of SoftHebb networks: normalise, convolve and learn, activate, pool."""

from __future__ import annotations

from torch import Tensor, nn

from softhebb_fast.nn.activations import Triangle
from softhebb_fast.nn.conv import SoftHebbConv2d


class Block(nn.Module):
    """``pool(activation(layer(norm(x))))``; every part but the layer may be None."""

    def __init__(
        self,
        layer: nn.Module,
        *,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm, self.layer, self.activation, self.pool = norm, layer, activation, pool

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.norm, self.layer, self.activation, self.pool):
            if part is not None:
                x = part(x)
        return x


class SoftHebbBlock(Block):
    """BatchNorm2d(affine=False), SoftHebbConv2d, an activation and a pool, as published.

    Input ``[B, C, H, W]``. The positional arguments and ``options`` are those of
    ``SoftHebbConv2d``, and so are the errors.

    Args:
        activation: applied to u; ``Triangle()`` if not given.
        pool: applied last, for example ``nn.MaxPool2d(4, 2, 1)``; none if not given.
        batch_norm: normalise the input, with running statistics in evaluation mode.

    Source: Journé et al. 2023 (arXiv 2209.11883), figure 1 and appendix A.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *geometry,
        activation: nn.Module | None = None,
        pool: nn.Module | None = None,
        batch_norm: bool = True,
        **options,
    ) -> None:
        device, dtype = options.get("device"), options.get("dtype")
        norm = nn.BatchNorm2d(in_channels, affine=False, device=device, dtype=dtype)
        super().__init__(
            SoftHebbConv2d(in_channels, out_channels, kernel_size, *geometry, **options),
            norm=norm if batch_norm else None,
            activation=Triangle() if activation is None else activation,
            pool=pool,
        )
