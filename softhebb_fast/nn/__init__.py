"""Hebbian layers as modules.

In training mode a layer's forward computes its pre-activations u and learns from the batch without
labels; in evaluation mode it is a plain convolution or matrix product.
"""

from softhebb_fast.nn.activations import RePU, Softmax, SplitTriangle, TopShare, Triangle
from softhebb_fast.nn.beside import side_by_side, take_apart_
from softhebb_fast.nn.blocks import Block, SoftHebbBlock
from softhebb_fast.nn.conv import SoftHebbConv1d, SoftHebbConv2d
from softhebb_fast.nn.convert import Conversion, convert
from softhebb_fast.nn.dead import reseed_, wins
from softhebb_fast.nn.distributed import synchronise
from softhebb_fast.nn.dropout import Dropout
from softhebb_fast.nn.hebbian import HebbianConv1d, HebbianConv2d, HebbianLinear
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.linear import SoftHebbLinear
from softhebb_fast.nn.normalise import UnitLength
from softhebb_fast.nn.starts import initialise_from
from softhebb_fast.nn.whitening import PatchWhitening

__all__ = [
    "Block",
    "Conversion",
    "Dropout",
    "HebbianConv1d",
    "HebbianConv2d",
    "HebbianLayer",
    "HebbianLinear",
    "PatchWhitening",
    "RePU",
    "SoftHebbBlock",
    "SoftHebbConv1d",
    "SoftHebbConv2d",
    "SoftHebbLinear",
    "Softmax",
    "SplitTriangle",
    "TopShare",
    "Triangle",
    "UnitLength",
    "convert",
    "initialise_from",
    "reseed_",
    "side_by_side",
    "synchronise",
    "take_apart_",
    "wins",
]
