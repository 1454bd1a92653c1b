from __future__ import annotations

import math
import os

import pytest
import torch
from torch import nn

from softhebb_fast.nn import SoftHebbConv2d, SoftHebbLinear
from softhebb_fast.nn.blocks import Block
from softhebb_fast.training import metrics
from tests.tolerances import literal

LEARNED = {"phase": "hebbian", "layer": 1, "epoch": 0.1, "seconds": 1.5, "r1": 3, "norm_mean": 25.0}
JUDGED = {"phase": "probe", "epoch": 1, "train_loss": 1 / 3, "test_accuracy": 100 * 2 / 3}


def test_rows_come_back_from_the_file(tmp_path):
    metrics.write_csv(tmp_path, [LEARNED, JUDGED])
    assert metrics.read_csv(tmp_path) == [
        LEARNED,
        JUDGED | {"train_loss": 0.3333333, "test_accuracy": 66.66667},
    ]
    lines = (tmp_path / metrics.FILE).read_text().splitlines()
    assert lines[0] == ",".join(metrics.COLUMNS)
    assert lines[1] == "hebbian,1,0.1,1.5,25.0,3,,,,,,,,,,,,,,"
    assert len(lines) == 3


def test_a_file_without_rows(tmp_path):
    metrics.write_csv(tmp_path, [])
    assert metrics.read_csv(tmp_path) == []


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    metrics.write_csv(tmp_path, [LEARNED])

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        metrics.write_csv(tmp_path, [LEARNED, JUDGED])
    assert metrics.read_csv(tmp_path) == [LEARNED]
    assert os.listdir(tmp_path) == [metrics.FILE]


def test_unknown_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="colour"):
        metrics.write_csv(tmp_path, [{"colour": 1}])
    assert os.listdir(tmp_path) == []


def filled(layer: nn.Module, weight: list) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def test_figures_of_a_perceptron():
    layer = filled(
        SoftHebbLinear(2, 2, 1.0, wta="soft", update="in_place", lr=1.0), [[3, 4], [0, 1]]
    )
    block = Block(layer, norm=nn.Flatten())
    block.train()
    # u is (3, 0), (4, 1) and (-3, 0): gaps of 3
    found = metrics.layer_metrics(block, torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]]))
    winner = 1 / (1 + math.exp(-3))
    assert found["winner_probability"] == literal(winner)
    assert found["busiest_share"] == literal((2 * winner + 1 - winner) / 3)
    assert found["norm_mean"] == literal(3.0)
    assert found["winner_entropy"] == literal(math.log2(3) - 2 / 3)
    sides = [winner, 1 - winner]
    assert found["competition_entropy"] == literal(-sum(p * math.log2(p) for p in sides))
    assert (found["r1"], found["distinct_filters"]) == (1, 2)
    assert layer.training
    assert layer.weight.tolist() == [[3, 4], [0, 1]]


def test_figures_of_a_convolution():
    layer = filled(
        SoftHebbConv2d(1, 4, 1, groups=1, t_invert=2.0, wta="hard", update="in_place", lr=1.0),
        [[[[1.0]]], [[[1.0]]], [[[-1.0]]], [[[0.5]]]],
    )
    block = Block(layer, norm=nn.BatchNorm2d(1, affine=False))
    block.train()
    before = {k: v.clone() for k, v in block.state_dict().items()}
    found = metrics.layer_metrics(block, torch.tensor([1.0, -1.0, -2.0, 3.0, 4.0]).view(1, 1, 1, 5))
    assert found == {
        "norm_mean": 0.875,
        "r1": 3,
        "winner_probability": 1.0,
        "busiest_share": literal(0.6),
        "winner_entropy": literal(math.log2(5) - (3 * math.log2(3) + 2) / 5),
        "competition_entropy": 0.0,
        "distinct_filters": 3,
    }
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


def test_groups_compete_apart():
    layer = SoftHebbConv2d(2, 4, 1, groups=2, wta="hard", update="in_place", lr=1.0)
    filled(layer, [[[[1.0]]], [[[2.0]]], [[[3.0]]], [[[-1.0]]]])
    found = metrics.layer_metrics(Block(layer), torch.ones(1, 2, 1, 2))
    assert found["busiest_share"] == 1.0
    assert found["winner_entropy"] == 1.0
    assert found["winner_probability"] == 1.0
