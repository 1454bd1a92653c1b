"""Augmentations of a whole batch: each is called as f(x, generator) and returns a new x.

They draw on the generator's device, so that a CPU generator gives the same augmentation on every
device, and take one gather or one grid sample a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from softhebb_fast.scalars import number, whole

ATTEMPTS = 10


@dataclass(frozen=True)
class RandomCropFlip:
    """Pad every side, cut a window of the old size anywhere, and mirror it now and then.

    The augmentation with which SoftHebb's classifiers on CIFAR and STL-10 are trained (Journé et
    al. 2023): 4 reflected pixels and a mirror image half of the time.

    Args:
        padding: pixels on every side; smaller than the image for ``"reflect"``.
        mode: as in ``torch.nn.functional.pad``.
        flip: probability of the mirror image.

    Raises ValueError or TypeError for other values, naming them.
    """

    padding: int = 4
    mode: str = "reflect"
    flip: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", whole("padding", self.padding, least=0))
        if self.mode not in ("reflect", "replicate", "constant"):
            raise ValueError(f"mode must be reflect, replicate or constant; got {self.mode!r}")
        object.__setattr__(self, "flip", _probability("flip", self.flip))

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """x float [B, C, H, W] -> the same shape."""
        batch, channels, height, width = _shape(x)
        if self.mode == "reflect" and self.padding >= min(height, width):
            raise ValueError(
                f"padding must be smaller than the image to reflect it; "
                f"got {self.padding} for {tuple(x.shape)}"
            )
        padded = F.pad(x, [self.padding] * 4, mode=self.mode)
        source = {"generator": generator, "device": generator.device}
        corner = torch.randint(2 * self.padding + 1, (2, batch, 1), **source).to(x.device)
        mirrored = torch.rand(batch, 1, **source).to(x.device) < self.flip
        column = torch.arange(width, device=x.device)
        rows = corner[0] + torch.arange(height, device=x.device)  # [B, H]
        columns = corner[1] + torch.where(mirrored, width - 1 - column, column)  # [B, W]
        index = rows[:, :, None] * padded.shape[-1] + columns[:, None, :]  # [B, H, W]
        index = index.flatten(1)[:, None].expand(-1, channels, -1)
        return padded.flatten(2).gather(2, index).view(x.shape)


@dataclass(frozen=True)
class GaussianNoise:
    """Add independent normal noise of standard deviation ``std`` to every pixel (unclipped)."""

    std: float

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise ValueError(f"std must not be negative; got {self.std}")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """x float [B, C, H, W] -> the same shape."""
        _shape(x)
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return x + self.std * noise.to(x.device)


@dataclass(frozen=True)
class RandomResizedCropFlip:
    """Cut a window of random area and aspect, resize it, and mirror it now and then.

    The window follows Szegedy et al. 2015 ("Going Deeper with Convolutions"): area a fraction
    of the image's drawn from ``scale``, aspect width / height drawn log-uniformly from ``ratio``,
    redrawn up to ten times where it does not fit, else the largest central window of an allowed
    aspect. Sampling is bilinear without anti-aliasing, meant for windows no larger than ``size``.

    Args:
        size: side of the square output; None keeps the input's height and width.
        scale: least and largest share of the area.
        ratio: least and largest aspect.
        flip: probability of the mirror image.
    """

    size: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1; got {self.size}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must satisfy 0 < least <= largest <= 1; got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must satisfy 0 < least <= largest; got {self.ratio}")
        object.__setattr__(self, "flip", _probability("flip", self.flip))

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """x float [B, C, H, W] -> [B, C, size, size]."""
        batch, channels, height, width = _shape(x)
        window = self.windows(batch, height, width, generator)
        top, left, rows, columns = window.to(torch.float64).unbind(1)
        mirrored = torch.rand(batch, generator=generator, device=generator.device) < self.flip
        theta = torch.zeros(batch, 2, 3, dtype=torch.float64, device=window.device)
        theta[:, 0, 0] = torch.where(mirrored, -columns, columns) / width
        theta[:, 0, 2] = (2 * left + columns) / width - 1
        theta[:, 1, 1] = rows / height
        theta[:, 1, 2] = (2 * top + rows) / height - 1
        size = (height, width) if self.size is None else (self.size, self.size)
        grid = F.affine_grid(theta.to(x), (batch, channels, *size), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def windows(self, batch: int, height: int, width: int, generator: Generator) -> Tensor:
        """Draw the windows, by ``generator``, of images of ``height`` x ``width``.

        int64 ``[batch, 4]`` of (top, left, rows, columns).
        """
        draws = torch.empty(4, batch, ATTEMPTS, dtype=torch.float64, device=generator.device)
        area, aspect, down, across = draws.uniform_(generator=generator)
        area = height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        aspect = torch.exp(low + aspect * (high - low))
        columns = torch.sqrt(area * aspect).round().clamp(min=1)
        rows = torch.sqrt(area / aspect).round().clamp(min=1)
        fits = (columns <= width) & (rows <= height)
        top = (down * (height - rows + 1)).floor()
        left = (across * (width - columns + 1)).floor()
        drawn = torch.stack((top, left, rows, columns), dim=-1)  # [B, ATTEMPTS, 4]
        first = fits.to(torch.uint8).argmax(dim=1)
        chosen = drawn[torch.arange(batch, device=drawn.device), first]
        central = torch.tensor(self._central(height, width), dtype=drawn.dtype).to(drawn.device)
        return torch.where(fits.any(dim=1, keepdim=True), chosen, central).to(torch.int64)

    def _central(self, height: int, width: int) -> tuple[int, int, int, int]:
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        rows = min(height, max(1, round(width / aspect)))
        columns = min(width, max(1, round(height * aspect)))
        return (height - rows) // 2, (width - columns) // 2, rows, columns


def _probability(name: str, value: float) -> float:
    found = number(name, value)
    if not 0 <= found <= 1:
        raise ValueError(f"{name} must be a probability; got {value!r}")
    return found


def _shape(x: Tensor) -> tuple[int, int, int, int]:
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"x must be float [B, C, H, W]; got {x.dtype} {tuple(x.shape)}")
    return tuple(x.shape)
