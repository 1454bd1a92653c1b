"""Ordinary networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from torch import nn

from softhebb_fast.init.common import check_positive
from softhebb_fast.models.constnet import constnet, leakynet
from softhebb_fast.models.feedforward import cifar_cnn, mnist_cnn, perceptron
from softhebb_fast.models.resnet import resnet
from softhebb_fast.models.zero_resnet import zero_resnet
from softhebb_fast.nn.layer import check_sizes

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    function.__name__: function
    for function in (perceptron, mnist_cnn, cifar_cnn, resnet, zero_resnet, constnet, leakynet)
}


def network(
    name: str, image_shape: tuple[int, int, int], classes: int, **options: Any
) -> nn.Module:
    """The network of that name for images (C, H, W), as its function in `NETWORKS` builds it.

    Raises TypeError or ValueError for a shape, classes or an option of a wrong kind or size,
    ValueError for an unknown name or option, and as that function does.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"name must be one of {', '.join(NETWORKS)}; got {name!r}")
    if not _are_whole(image_shape) or len(image_shape) != 3:
        raise TypeError(f"image_shape must be (C, H, W); got {image_shape!r}")
    channels, height, width = image_shape
    check_sizes(channels=channels, height=height, width=width, classes=classes)
    _, _, *known = inspect.signature(NETWORKS[name]).parameters.values()
    takes = {parameter.name: parameter.default for parameter in known}
    if unknown := sorted(options.keys() - takes.keys()):
        raise ValueError(f"options of {name} must be among {', '.join(takes)}; got {unknown}")
    for option, value in options.items():
        _check_option(option, value, takes[option])
    return NETWORKS[name](tuple(image_shape), classes, **options)


def _check_option(name: str, value: Any, default: Any) -> None:
    """Raise unless ``value`` is of the kind of the option's default, and of a size that can be."""
    if isinstance(default, bool | str):
        if not isinstance(value, type(default)):
            raise TypeError(f"{name} must be a {type(default).__name__}; got {value!r}")
    elif isinstance(default, int):
        check_sizes(**{name: value})
    elif isinstance(default, float):
        if name != "dropout":
            check_positive(name, value)
        elif not (isinstance(value, Real) and 0 <= value < 1):
            raise ValueError(f"{name} must be at least 0 and below 1; got {value!r}")
    elif not _are_whole(value):
        raise TypeError(f"{name} must be a list of whole numbers; got {value!r}")
    else:
        for size in value:
            check_sizes(**{name: size})


def _are_whole(values: Any) -> bool:
    numbers = isinstance(values, Sequence) and not isinstance(values, str)
    return numbers and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
