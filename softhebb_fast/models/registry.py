"""Ordinary networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from softhebb_fast.init.common import check_positive
from softhebb_fast.models.constnet import constnet, leakynet
from softhebb_fast.models.feedforward import cifar_cnn, mnist_cnn, perceptron
from softhebb_fast.models.resnet import resnet
from softhebb_fast.models.softhebb import checked_shape
from softhebb_fast.models.zero_resnet import zero_resnet
from softhebb_fast.nn.layer import check_sizes
from softhebb_fast.scalars import number, plain, whole

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

    ``image_shape`` is (C, H, W); ``options`` are those of that function.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"name must be one of {', '.join(NETWORKS)}; got {name!r}")
    image_shape = checked_shape(image_shape)
    (classes,) = check_sizes(classes=classes)
    _, _, *known = inspect.signature(NETWORKS[name]).parameters.values()
    takes = {parameter.name: parameter.default for parameter in known}
    if unknown := sorted(options.keys() - takes.keys()):
        raise ValueError(f"options of {name} must be among {', '.join(takes)}; got {unknown}")
    options = {key: _checked_option(key, value, takes[key]) for key, value in options.items()}
    return NETWORKS[name](image_shape, classes, **options)


def _checked_option(name: str, value: Any, default: Any) -> Any:
    """``value``, if it is of the kind of the option's default, and of a size that can be."""
    if isinstance(default, bool | str):
        if not isinstance(plain(value), type(default)):
            raise TypeError(f"{name} must be a {type(default).__name__}; got {value!r}")
        return plain(value)
    if isinstance(default, int):
        return whole(name, value, least=1)
    if isinstance(default, float):
        if name != "dropout":
            return check_positive(name, value)
        if not 0 <= number(name, value) < 1:
            raise ValueError(f"{name} must be at least 0 and below 1; got {value!r}")
        return number(name, value)
    sizes = value.tolist() if getattr(value, "ndim", None) == 1 else value
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(f"{name} must be a list of whole numbers; got {value!r}")
    return tuple(whole(name, size, least=1) for size in sizes)
