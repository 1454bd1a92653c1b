"""Learning rates: norm-dependent per neuron, decaying schedules, and the classifier's halvings."""

from softhebb_fast.functional import hebbian_step_, norm_dependent_rate
from softhebb_fast.optim.demo import CustomStepLR, TensorLRSGD, WeightNormDependentLR
from softhebb_fast.optim.noise import gradient_noise
from softhebb_fast.optim.norms import norm_dependent
from softhebb_fast.optim.schedules import (
    Constant,
    ExponentialDecay,
    LinearDecay,
    Milestones,
    halving_epochs,
    halving_schedule,
)

__all__ = [
    "Constant",
    "CustomStepLR",
    "ExponentialDecay",
    "LinearDecay",
    "Milestones",
    "TensorLRSGD",
    "WeightNormDependentLR",
    "gradient_noise",
    "halving_epochs",
    "halving_schedule",
    "hebbian_step_",
    "norm_dependent",
    "norm_dependent_rate",
]
