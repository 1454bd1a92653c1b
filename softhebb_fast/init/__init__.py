"""How weights start: those of a layer, or of any model (`apply`); and how different they are.

A weight is [K, C/g, R, S] (convolution) or [K, N] (linear); row k is the filter of neuron k, with
fan-in N = (C/g)·R·S. Functions ending in `_` fill it in place without autograd and return it, like
`torch.nn.init`. Random numbers are always drawn on the CPU in float32, in one call of the weight's
shape, and then copied: one seed gives one network on every device and in every dtype. Tensors on
the meta device hold nothing to fill and consume no random numbers.

They share their arguments: `weight`, the tensor to fill; `radius` and `lebesgue_p`, the norm that
filters aim at and its exponent; `generator`, a CPU generator for what is drawn, torch's global one
if None; `signs`, which of the equally good signs `hadamard_patches_` takes.

`docs/initialisation.md` has a table of them all.
"""

from softhebb_fast.init.apply import Applied, apply
from softhebb_fast.init.breakers import noise_, random_bias_, weight_noise_
from softhebb_fast.init.diversity import Diversity, distinct_filters, diversity
from softhebb_fast.init.hadamard import hadamard_patches_, walsh_binary_
from softhebb_fast.init.patches import kmeans_, patches_
from softhebb_fast.init.random import (
    averaging_,
    constant_,
    negative_,
    normal_,
    positive_,
    random_binary_,
    zeros_,
)
from softhebb_fast.init.registry import (
    FROM_DATA,
    INITS,
    Init,
    initialise,
    needs_bias,
    needs_data,
    per_layer,
)
from softhebb_fast.init.residues import residue_binary_
from softhebb_fast.init.symmetry import Symmetry, feature_diversity, symmetry
from softhebb_fast.init.taps import hadamard_taps_, identity_taps_
from softhebb_fast.init.zero import ZERO_SCALES, identity_, partial_identity_, zerO_
from softhebb_fast.naming import parse_init

__all__ = [
    "FROM_DATA",
    "INITS",
    "ZERO_SCALES",
    "Applied",
    "Diversity",
    "Init",
    "Symmetry",
    "apply",
    "averaging_",
    "constant_",
    "distinct_filters",
    "diversity",
    "feature_diversity",
    "hadamard_patches_",
    "hadamard_taps_",
    "identity_",
    "identity_taps_",
    "initialise",
    "kmeans_",
    "needs_bias",
    "needs_data",
    "negative_",
    "noise_",
    "normal_",
    "parse_init",
    "partial_identity_",
    "patches_",
    "per_layer",
    "positive_",
    "random_bias_",
    "random_binary_",
    "residue_binary_",
    "symmetry",
    "walsh_binary_",
    "weight_noise_",
    "zerO_",
    "zeros_",
]
