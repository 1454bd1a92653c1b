"""The networks that the published ZerO-SoftHebb code adds (Le, Xu and Zhuang).

They are meant for ZerO weights, which ignore `radius`; a preset does not fix the initialisation.
That code also changed 2SoftHebbCnnCIFAR and left its name (128 filters of 3x3, lr 0.07 and
q 0.4 in place of 96 of 5x5, 0.08 and 0.5). Here the name keeps the network of Journé et al.
2023, and the changed one is 2SoftHebbCnnCIFAR_zero.
"""

from __future__ import annotations

from .blocks import AVG, AVG2, MAX, head, soft
from .scale import with_variants

_SHALLOW = (soft(128, 3, 2, 1, 0.07, 0.7, AVG, lr_power=0.4), head())

NETS = {
    "2SoftHebbZerOCIFAR10": _SHALLOW,
    "2SoftHebbZerOMNIST": _SHALLOW,
    "4SoftHebbCnnZerOMNIST": (
        soft(96, 3, 2, 1, 0.08, 0.7, MAX),
        soft(384, 4, 1, 0.65, 0.003, 1.4, MAX, lr_power=0.3),
        soft(1536, 1, 1, 0.25, 0.001, 1, AVG2, lr_power=0.1),
        head(),
    ),
    "2SoftHebbCnnCIFAR_zero": _SHALLOW,
}

VARIANTS = {
    "4SoftHebbCnnZerOMNIST": (
        {"neuron_factor": 0.5},
        {"neuron_factor": 2},
        {"width_factor": 1},
        {"width_factor": 2},
    )
}

ZERO = tuple(with_variants(NETS, VARIANTS, "ZerO-SoftHebb"))
