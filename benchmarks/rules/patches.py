"""Patches of CIFAR-10 images in the forms that the pictures of rules are learned from."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.data import load

SIZE = 9  # rows and columns of a patch
PATCHES, IMAGES = 100_000, 10_000
GREY = (0.299, 0.587, 0.114)
FLOOR = 10 / 255**2  # of a variance: what noise has, Coates and Ng 2011


class Inputs:
    """Patches drawn from a seed, ``[N, S]``; every form is made when it is first asked for."""

    def __init__(self, root: str | None) -> None:
        self.set = load("cifar10", "train", root=root, limit=IMAGES)
        pixels = self.set.images.float() / 255
        grey = (pixels * torch.tensor(GREY).view(1, 3, 1, 1)).sum(dim=1)
        generator = torch.Generator().manual_seed(0)
        most = (IMAGES, *(1 + n - SIZE for n in grey.shape[1:]))
        place = (torch.randint(n, (PATCHES,), generator=generator) for n in most)
        patches = grey.unfold(1, SIZE, 1).unfold(2, SIZE, 1)[tuple(place)].flatten(1)
        self.patches = contrast_normalised(patches)
        self.patches -= self.patches.mean(dim=0)
        self.made: dict[str, Tensor] = {}

    def form(self, name: str) -> Tensor:
        """One of ``FORMS``, a row a sample."""
        if name not in self.made:
            self.made[name] = FORMS[name](self)
        return self.made[name]


def contrast_normalised(rows: Tensor) -> Tensor:
    """Each row less its mean, over its deviation."""
    rows = rows - rows.mean(dim=1, keepdim=True)
    return rows / (rows.var(dim=1, keepdim=True) + FLOOR).sqrt()


def whitened(rows: Tensor, floor: float) -> Tensor:
    """Rows with nearly uncorrelated columns, by ZCA; ``floor`` is added to the variances."""
    variances, axes = torch.linalg.eigh(rows.t() @ rows / len(rows))
    return rows @ (axes * (variances + floor).rsqrt()) @ axes.t()


def _on_and_off(inputs: Inputs) -> Tensor:
    """What is above zero and what is below, side by side: inputs that are skewed."""
    rows = whitened(inputs.patches, 1.0)
    rows = rows / rows.std()
    both = torch.cat([F.relu(rows), F.relu(-rows)], dim=1)
    return both - both.mean(dim=0)


FORMS: dict[str, Callable[[Inputs], Tensor]] = {
    "patches": lambda inputs: inputs.patches,
    "white": lambda inputs: whitened(inputs.patches, 0.1),
    "on_and_off": _on_and_off,
    "images": lambda inputs: contrast_normalised(inputs.set.images.float().flatten(1) / 255),
}
