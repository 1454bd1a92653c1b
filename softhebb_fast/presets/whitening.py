"""The whitening of a layer's input as a preset has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from softhebb_fast.scalars import positive, whole

Method = Literal["zca", "pca"]


@dataclass(frozen=True)
class Whitening:
    """How the patches that a convolution sees are whitened, see ``nn.PatchWhitening``.

    `epsilon` is added to the variances, `contrast` to that of each patch, whose contrast is
    normalised first; None leaves contrast alone. `components` are those of `"pca"` that are kept,
    None for all. `images` is how many images of the training set, in the order of the run's seed,
    the statistics are taken of; None for all.

    Raises:
        ValueError: for a field outside its range, naming it; `components` of another method.

    `method` is `"zca"` or `"pca"`.
    """

    method: Method = "zca"
    epsilon: float = 0.1
    contrast: float | None = None
    components: int | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"Whitening: method must be 'zca' or 'pca', got {self.method!r}")
        try:
            object.__setattr__(self, "epsilon", positive("epsilon", self.epsilon))
            if self.contrast is not None:
                object.__setattr__(self, "contrast", positive("contrast", self.contrast))
            for name in ("components", "images"):
                if getattr(self, name) is not None:
                    object.__setattr__(self, name, whole(name, getattr(self, name), least=1))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Whitening: {error}") from None
        if self.components is not None and self.method != "pca":
            raise ValueError(f"Whitening: components are for 'pca', got {self.method!r}")

    def __str__(self) -> str:
        parts = [f"{self.method} eps={self.epsilon:g}"]
        parts += [f"contrast={self.contrast:g}"] if self.contrast else []
        parts += [f"m={self.components}"] if self.components else []
        return " ".join(parts + ([f"of {self.images} images"] if self.images else []))
