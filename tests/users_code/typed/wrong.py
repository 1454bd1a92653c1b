"""Mistakes that pyright must report: `make types` fails where one of these lines is no error.

It is never run. The comment of a line names the rule by which it is one.
"""

from pathlib import Path

import torch
from torch import nn

import softhebb_fast
from softhebb_fast import (
    HebbianLinear,
    SoftHebbBlock,
    SoftHebbConv2d,
    SoftHebbLinear,
    convert,
    functional,
    init,
    models,
)
from softhebb_fast.pretrained import from_pretrained
from softhebb_fast.sklearn import HebbianClassifier
from softhebb_fast.training import RunConfig, Trainer

x, weight = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3)

softhebb_fast.SoftHebConv2d(3, 8, 5)  # pyright: ignore[reportAttributeAccessIssue]
softhebb_fast.training.load("runs")  # pyright: ignore[reportAttributeAccessIssue]

SoftHebbConv2d(3, 8, "5")  # pyright: ignore[reportArgumentType]
SoftHebbConv2d(3, 8, 5, 1, 0, 1, 1, 12.0, "soft")  # pyright: ignore[reportCallIssue]
SoftHebbConv2d(3, 8, 5, learning_rate=0.1)  # pyright: ignore[reportCallIssue]
SoftHebbLinear(12, 4, schedule=[0.1, 0.05])  # pyright: ignore[reportArgumentType]
SoftHebbLinear(12, 4).lr = "0.1"  # pyright: ignore[reportAttributeAccessIssue]
SoftHebbLinear(12, 4).bias.sum()  # pyright: ignore[reportOptionalMemberAccess]
SoftHebbLinear(12, 4).t_invert.sum()  # pyright: ignore[reportAttributeAccessIssue]
HebbianLinear(12, 4, rule=3)  # pyright: ignore[reportArgumentType]
HebbianLinear(12, 4).forward(x, labels=x)  # pyright: ignore[reportCallIssue]
SoftHebbBlock(3, 8, 3, pool="max")  # pyright: ignore[reportArgumentType]

functional.softhebb_conv2d(x, weight, stride="2")  # pyright: ignore[reportArgumentType]
functional.softhebb_conv2d(x, weight).delta.sum()  # pyright: ignore[reportAttributeAccessIssue]
functional.softhebb_conv2d_step_(x, weight)  # pyright: ignore[reportCallIssue]
functional.hebbian_linear(x, weight, "oja")  # pyright: ignore[reportArgumentType]

init.apply([nn.Linear(3, 4)], "zerO")  # pyright: ignore[reportArgumentType]
init.initialise(weight, init=1)  # pyright: ignore[reportArgumentType]
convert(nn.Linear(3, 4), exclude=1)  # pyright: ignore[reportArgumentType]
models.build("DemoMNIST", (28, 28), 10)  # pyright: ignore[reportArgumentType]
from_pretrained("DemoMNIST", "cpu")  # pyright: ignore[reportCallIssue]

RunConfig("DemoMNIST", "mnist", epochs=3)  # pyright: ignore[reportCallIssue]
Trainer("DemoMNIST", Path("runs"))  # pyright: ignore[reportArgumentType]
HebbianClassifier(5, penalty=[1.0])  # pyright: ignore[reportArgumentType]
