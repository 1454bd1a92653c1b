"""Ordinary networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from softhebb_fast.models.constnet import constnet, leakynet
from softhebb_fast.models.feedforward import cifar_cnn, mnist_cnn, perceptron
from softhebb_fast.models.resnet import resnet
from softhebb_fast.models.zero_resnet import zero_resnet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    function.__name__: function
    for function in (perceptron, mnist_cnn, cifar_cnn, resnet, zero_resnet, constnet, leakynet)
}


def network(
    name: str, image_shape: tuple[int, int, int], classes: int, **options: Any
) -> nn.Module:
    """The network of that name for images (C, H, W), as its function in `NETWORKS` builds it.

    Raises ValueError for an unknown name or option, and as that function does.
    """
    if name not in NETWORKS:
        raise ValueError(f"name must be one of {', '.join(NETWORKS)}; got {name!r}")
    _, _, *takes = inspect.signature(NETWORKS[name]).parameters
    if unknown := sorted(options.keys() - set(takes)):
        raise ValueError(f"options of {name} must be among {', '.join(takes)}; got {unknown}")
    return NETWORKS[name](tuple(image_shape), classes, **options)
