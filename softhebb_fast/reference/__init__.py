"""The SoftHebb layer in plain PyTorch: literal, slow on purpose, the executable definition.

For an input x, filters W and output positions p = (batch, row, column),

    u[p, k] = <x_p, W_k>                          the pre-activation, which the layer returns
    y[p, k] = s[p, k] softmax_k(t u[p, k])        the competition, s = -1 for losers ("soft_anti")
    D[k]    = sum_p y[p, k] x_p - (sum_p y[p, k] u[p, k]) W_k
    delta_w = D / (max |D| + 1e-30)               an ascent direction: W += rate * delta_w

Journé et al. 2023, "Hebbian Deep Learning Without Feedback" (arXiv 2209.11883), equations 1 and 2.
Other rules (``options.Rule``) have another activity in the place of y and another gain in the place
of ``sum_p y u``. Every function runs on CPU and CUDA. float64 stays float64; float32, float16 and
bfloat16 inputs are computed in float32. The arguments are taken as valid:
``softhebb_fast.functional`` checks them.
"""

from __future__ import annotations

from softhebb_fast.reference.competition import position_hashes, soft_wta, winners
from softhebb_fast.reference.layer import (
    HebbianOutput,
    SoftHebbOutput,
    block_forward,
    block_step_,
    block_update,
    conv2d,
    conv2d_step_,
    linear,
    linear_step_,
    pre_activations,
)
from softhebb_fast.reference.product import EPSILON, accumulated, convolve, lebesgue_weight, pad
from softhebb_fast.reference.rules import (
    activity,
    bias_sums,
    bias_update,
    correlations,
    divided,
    hebbian_update,
    modulated,
    over_largest,
    over_positions,
    settle,
    statistic,
)
from softhebb_fast.reference.step import hebbian_step_, norm_dependent_rate, rates, step_, unit

__all__ = [
    "EPSILON",
    "HebbianOutput",
    "SoftHebbOutput",
    "accumulated",
    "activity",
    "bias_sums",
    "bias_update",
    "block_forward",
    "block_step_",
    "block_update",
    "conv2d",
    "conv2d_step_",
    "convolve",
    "correlations",
    "divided",
    "hebbian_step_",
    "hebbian_update",
    "lebesgue_weight",
    "linear",
    "linear_step_",
    "modulated",
    "norm_dependent_rate",
    "over_largest",
    "over_positions",
    "pad",
    "position_hashes",
    "pre_activations",
    "rates",
    "settle",
    "soft_wta",
    "statistic",
    "step_",
    "unit",
    "winners",
]
