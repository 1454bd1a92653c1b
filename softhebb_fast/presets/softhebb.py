"""The networks of the published SoftHebb code (Journé et al. 2023, arXiv 2209.11883).

The leading digit of a name counts the layers, classifier included. CIFAR, STL and MNIST name the
data a network was tuned on, and ImNet is ImageNette or ImageNet; the classifier takes its size
from the data. Names are as published, the misspelt "2HardCnnCIFA_speed_linearDecay" too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .blocks import AVG, AVG2, MAX, MAX2, bp, hard, head, soft, triangle
from .scale import with_variants
from .types import Layer

HEAD, HEAD_04 = head(0.5), head(0.4)

# soft(out, kernel, padding, t, lr, triangle power, pool)
# hard(out, kernel, padding, lr, triangle power, pool)
# bp(out, kernel, padding, pool)

_MLP = Layer("linear", "soft", 2000, t_invert=12, lr=0.045, radius=35, activation=("softmax", 5.0))
MNIST = {
    "2SoftMlpMNIST": (_MLP, head(0.0)),
    "2SoftMlpMNIST_linearDecay": (replace(_MLP, schedule="linear"), head(0.0)),
}

_SOFT_CIFAR = (
    soft(96, 5, 2, 1, 0.08, 0.7, MAX),
    soft(384, 3, 1, 0.65, 0.005, 1.4, MAX),
    soft(1536, 3, 1, 0.25, 0.01, 1, AVG2),
)
_SOFT_AVG = soft(96, 5, 2, 1, 0.08, 0.7, AVG)
_HARD_CIFAR = (
    hard(96, 5, 1, 0.05, 1, MAX),
    hard(384, 3, 1, 0.05, 1, MAX),
    hard(1536, 3, 0, 0.05, 1, MAX2),
)
_BP_CIFAR = (bp(96, 5, 2), bp(384, 3, 1), bp(1536, 1, 0, MAX2, groups=192))
_LABELS = Layer("linear", "supervised", t_invert=12, lr=0.045, radius=35, schedule="linear")
_FAST = {"lr_power": 0.5, "radius": 10.0}
CIFAR = {
    "2SoftHebbCnnCIFAR": (_SOFT_AVG, HEAD),
    "2HardCnnCIFAR": (hard(96, 5, 2, 0.08, 0.7, AVG, lr_power=0.5), HEAD),
    "2HardCnnCIFAR_speed": (hard(96, 5, 2, 0.05, 0.7, AVG, **_FAST), HEAD),
    "2HardCnnCIFA_speed_linearDecay": (
        hard(96, 5, 2, 0.025, 0.7, AVG, radius=10.0, schedule="linear"),
        HEAD,
    ),
    "2CnnCIFAR": (bp(96, 5, 2, AVG), HEAD),
    "3CnnCIFAR": (*_BP_CIFAR[:2], HEAD),
    "4CnnCIFAR": (*_BP_CIFAR, HEAD),
    "3SoftHebbCnnCIFAR": (_SOFT_AVG, replace(_SOFT_CIFAR[1], pre_triangle=True), HEAD),
    "3HardCnnCIFAR": (*_HARD_CIFAR[:2], HEAD),
    "4SoftHebbCnnCIFAR": (*_SOFT_CIFAR, HEAD),
    "4SoftHebbCnnCIFAR_HebbClassifier": (*_SOFT_CIFAR, _LABELS),
    "4SoftHebbCnnCIFAR_noBatchNorm": (
        *(replace(layer, batch_norm=False) for layer in _SOFT_CIFAR),
        HEAD,
    ),
    "4HardCnnCIFAR": (*_HARD_CIFAR, HEAD),
}

_BP_STL = (bp(96, 7, 3), bp(384, 5, 2), bp(1536, 3, 1))
STL = {
    "5SoftHebbCnnSTL": (
        _SOFT_AVG,
        soft(384, 3, 1, 0.65, 0.005, 0.7, MAX),
        soft(1536, 3, 1, 0.45, 0.01, 1.4, AVG),
        soft(6144, 3, 1, 0.25, 0.01, 1, AVG2),
        HEAD,
    ),
    "4SoftHebbCnnSTL": (
        _SOFT_AVG,
        soft(384, 3, 1, 0.65, 0.005, 1.4, MAX),
        soft(1536, 3, 1, 0.45, 0.01, 1, AVG),
        HEAD_04,
    ),
    "4CnnSTL": (*_BP_STL, HEAD_04),
    "5CnnSTL": (*_BP_STL, bp(6144, 3, 1, AVG2), HEAD),
}


def _hard_imnet(rates: tuple[float, ...], radius: float) -> tuple[Layer, ...]:
    shapes = (48, 7, 3), (192, 5, 2), (768, 3, 1), (3072, 3, 1)
    return tuple(
        hard(*shape, lr, 1, MAX, radius=radius) for shape, lr in zip(shapes, rates, strict=False)
    )


def _soft_imnet(rates: tuple[float, ...], ts: tuple[float, ...]) -> tuple[Layer, ...]:
    return tuple(
        replace(layer, rule="soft_anti", t_invert=t)
        for layer, t in zip(_hard_imnet(rates, 2), ts, strict=True)
    )


def _soft_wide(out: int, kernel: int, padding: int, *rest: Any) -> Layer:
    return soft(out, kernel, padding, *rest, lr_power=0.75)


_BP_IMNET = (bp(48, 7, 3), bp(192, 5, 2), bp(768, 3, 1), bp(3072, 3, 1))
_BP_DEEP = (*_BP_IMNET, bp(12288, 1, 0, groups=768))
IMNET = {
    "2HardCnnImNet": (*_hard_imnet((0.05,), 2), HEAD),
    "3HardCnnImNet": (*_hard_imnet((0.07, 0.03), 2), HEAD),
    "4HardCnnImNet": (*_hard_imnet((0.07, 0.03, 0.02), 2), HEAD_04),
    "5HardCnnImNet": (*_hard_imnet((0.05, 0.03, 0.02, 0.01), 2), HEAD),
    "6HardCnnImNet": (
        *_hard_imnet((0.05, 0.03, 0.02, 0.01), 25),
        hard(12288, 1, 0, 0.02, 1, MAX2, groups=768),
        HEAD,
    ),
    "2SoftHebbCnnImNet": (*_soft_imnet((0.05,), (1,)), HEAD),
    "3SoftHebbCnnImNet": (*_soft_imnet((0.07, 0.03), (1, 0.7)), HEAD),
    "4SoftHebbCnnImNet": (*_soft_imnet((0.07, 0.03, 0.02), (1, 0.7, 0.5)), HEAD_04),
    "5SoftHebbCnnImNet": (*_soft_imnet((0.05, 0.03, 0.02, 0.01), (1, 0.7, 0.7, 0.5)), HEAD),
    "2CnnImNet": (replace(_BP_IMNET[0], activation=triangle(1)), HEAD),
    "3CnnImNet": (*_BP_IMNET[:2], HEAD),
    "4CnnImNet": (*_BP_IMNET[:3], HEAD_04),
    "5CnnImNet": (*_BP_IMNET, HEAD),
    "6CnnImNet": (*(replace(layer, activation=triangle(1)) for layer in _BP_DEEP), HEAD),
    "6SoftHebbCnnImNet": (
        _soft_wide(48, 5, 2, 1.1, 0.08, 0.7, MAX),
        _soft_wide(192, 3, 1, 0.7, 0.01, 0.7, MAX),
        _soft_wide(768, 3, 1, 0.5, 0.01, 0.7, MAX),
        _soft_wide(3072, 3, 1, 0.4, 0.01, 1.4, MAX),
        _soft_wide(12288, 3, 1, 0.25, 0.01, 1, AVG2),
        HEAD,
    ),
}

_WIDTHS = ({"width_factor": 2}, {"width_factor": 1})
VARIANTS = {
    "3SoftHebbCnnCIFAR": _WIDTHS,
    "4SoftHebbCnnCIFAR": (
        {"neuron_factor": 2},
        {"neuron_factor": 0.5},
        {"neuron_factor": 0.25},
        *_WIDTHS,
    ),
}

SOFTHEBB = tuple(with_variants(MNIST | CIFAR | STL | IMNET, VARIANTS, "SoftHebb"))
