"""How images are read where the data leave it open: options of ``load``, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from softhebb_fast.data.arrays import LAYOUTS

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALISATIONS = ("off", "train", "imagenet")
Moments = tuple[tuple[float, ...], tuple[float, ...]]
FOLDER = ("image_size", "channels", "normalise", "skip_damaged")
OPTIONS = {
    "folder": (*FOLDER, "holdout"),
    "tree": FOLDER,
    "arrays": ("normalise", "holdout", "layout", "value_range"),
    "file": ("normalise",),
}


@dataclass(frozen=True)
class Reading:
    """The options of ``load`` that say how images are read: ``image_size``, ``channels``,
    ``normalise``, ``holdout``, ``layout``, ``value_range`` and ``skip_damaged``; see there.

    Raises TypeError or ValueError for a value of another kind or out of its range, naming it.
    """

    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    normalise: str | Moments | None = None
    holdout: float | None = None
    layout: str | None = None
    value_range: tuple[float, float] | str | None = None
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        size = self.image_size
        if size is not None:
            sides = (size, size) if isinstance(size, int) else size
            if not isinstance(sides, Sequence) or len(sides) != 2 or not all(map(_side, sides)):
                raise ValueError(
                    f"image_size must be a positive side, or (height, width); got {size!r}"
                )
            object.__setattr__(self, "image_size", tuple(sides))
        if self.channels not in (None, 1, 3) or isinstance(self.channels, bool):
            raise ValueError(f"channels must be 1 or 3; got {self.channels!r}")
        if self.holdout is not None:
            if isinstance(self.holdout, bool) or not isinstance(self.holdout, int | float):
                raise TypeError(f"holdout must be a number; got {self.holdout!r}")
            if not 0 < self.holdout < 1:
                raise ValueError(f"holdout must be a fraction between 0 and 1; got {self.holdout}")
        if self.layout not in (None, *LAYOUTS):
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {self.layout!r}")
        if not isinstance(self.skip_damaged, bool):
            raise TypeError(f"skip_damaged must be a bool; got {self.skip_damaged!r}")
        if isinstance(self.normalise, str):
            if self.normalise not in NORMALISATIONS:
                raise ValueError(
                    f"normalise must be one of {', '.join(NORMALISATIONS)} or (means, deviations); "
                    f"got {self.normalise!r}"
                )
        elif self.normalise is not None:
            object.__setattr__(self, "normalise", checked_moments(self.normalise))

    def check_for(self, kind: str, name: str) -> None:
        """Raise ValueError where an option says nothing about ``name``, data of this ``kind``."""
        for option, value in asdict(self).items():
            if value not in (None, False) and option not in OPTIONS[kind]:
                kinds = [known for known, options in OPTIONS.items() if option in options]
                texts = {"folder": "folders of images", "tree": "image trees", "arrays": "arrays"}
                raise ValueError(
                    f"{option} is for {' and '.join(texts[k] for k in kinds)}; got {value!r} for "
                    f"{name}"
                )


def checked_moments(pair: Any) -> Moments:
    """``normalise`` as tuples. Raises unless it is as many deviations above 0 as means."""
    rows = isinstance(pair, list | tuple) and all(isinstance(row, list | tuple) for row in pair)
    if not rows or len(pair) != 2 or len(pair[0]) != len(pair[1]):
        raise TypeError(f"normalise must be [means, deviations] of the channels; got {pair!r}")
    for value in (*pair[0], *pair[1]):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"normalise must be a number; got {value!r}")
    means, deviations = (tuple(map(float, row)) for row in pair)
    if not all(map(math.isfinite, means)) or not all(0 < v < math.inf for v in deviations):
        raise ValueError(
            f"normalise must have positive deviations, and means that are finite; got {pair!r}"
        )
    return means, deviations


def _side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
