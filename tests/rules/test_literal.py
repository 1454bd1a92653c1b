"""Every rule worked by hand on two inputs and two neurons."""

from __future__ import annotations

import math

import pytest
import torch

from softhebb_fast.functional import hebbian_linear, hebbian_linear_step_, hebbian_step_
from softhebb_fast.kinds import RULES
from softhebb_fast.options import Rule
from softhebb_fast.reference import settle
from tests.tolerances import literal

X = [[1.0, 2.0], [3.0, -1.0]]
W = [[1.0, 0.0], [0.5, 1.0]]
# u = [[1, 2.5], [3, 0.5]]
E2 = math.exp(-1.5), math.exp(-2.5)  # of the losers' softmax, t = 1
P = [E2[0] / (1 + E2[0]), 1 / (1 + E2[0])], [1 / (1 + E2[1]), E2[1] / (1 + E2[1])]

# The rule's D, not normalised; each worked in the margin of its own line.
LITERAL = {
    # sum u x = [1*1+3*3, 1*2+3*-1] = [10, -1]; [2.5*1+.5*3, 2.5*2+.5*-1] = [4, 4.5]
    "hebb": ({}, [[10.0, -1.0], [4.0, 4.5]]),
    # less sum u^2 = 10 and 6.5 times W
    "oja": ({}, [[0.0, -1.0], [0.75, -2.0]]),
    # neuron 0 as oja; neuron 1 loses (sum u1 u0 = 2.5 + 1.5 = 4) W_0 too
    "sanger": ({}, [[0.0, -1.0], [-3.25, -2.0]]),
    # winners 1 and 0: x of each, less one W
    "instar": ({"wta": "hard"}, [[2.0, -1.0], [0.5, 1.0]]),
    # distances: x0 to W0 sqrt(4), to W1 sqrt(1.25); x1 to W0 sqrt(5), to W1 sqrt(10.25)
    "kmeans": ({"counts": [1.0, 4.0]}, [[2.0, -1.0], [0.5, 1.0]]),
    # winner +1, rank 2 -0.4: A = [[-.4, 1], [1, -.4]]; sum A x = [2.6, -1.8], [-.2, 2.4];
    # sum A u = -.4 + 3 = 2.6, 2.5 - .2 = 2.3
    "krotov": ({}, [[0.0, -1.8], [-1.35, 0.1]]),
    # A = u (u - 1) = [[0, 3.75], [6, -.25]]
    "bcm": ({"threshold": [1.0, 1.0]}, [[18.0, -6.0], [3.0, 7.75]]),
    # labels 0 and 1: A = [[1, 0], [0, 1]]; sum A u = 1 and .5
    "teacher": ({"target": [0, 1]}, [[0.0, 2.0], [2.75, -1.5]]),
    # A = label less softmax
    "delta_rule": (
        {"target": [0, 1], "t_invert": 1.0},
        [
            [1 - P[0][0] - 3 * P[1][0], 2 - 2 * P[0][0] + P[1][0]],
            [-P[0][1] + 3 * (1 - P[1][1]), -2 * P[0][1] - (1 - P[1][1])],
        ],
    ),
    # M = [[0, 1], [0, 0]]: y1 = u1, y0 = u0 - u1 = -1.5 and 2.5;
    # sum y x = [6, -5.5], [4, 4.5]; sum y^2 = 8.5, 6.5
    "similarity": ({"lateral": [[0.0, 1.0], [0.0, 0.0]]}, [[-2.5, -5.5], [0.75, -2.0]]),
    # no lateral weights: y = u, and the step is 1
    "nonnegative_similarity": ({"lateral": [[0.0] * 2] * 2}, [[0.0, -1.0], [0.75, -2.0]]),
    # y = [[-P, P], [P, -P]]
    "softhebb": (
        {"t_invert": 1.0},
        [
            [
                -P[0][0] + 3 * P[1][0] - (3 * P[1][0] - P[0][0]),
                -2 * P[0][0] - P[1][0],
            ],
            [
                P[0][1] - 3 * P[1][1] - 0.5 * (2.5 * P[0][1] - 0.5 * P[1][1]),
                2 * P[0][1] + P[1][1] - (2.5 * P[0][1] - 0.5 * P[1][1]),
            ],
        ],
    ),
}


def given(rule: str) -> dict:
    options, _ = LITERAL[rule]
    return {k: torch.tensor(v) if isinstance(v, list) else v for k, v in options.items()}


def test_every_rule_is_worked_out():
    assert LITERAL.keys() == RULES.keys()


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("rule", LITERAL)
def test_directions(rule, backend):
    options, expected = given(rule), LITERAL[rule][1]
    counts = options.pop("counts", None)
    x, w = torch.tensor(X), torch.tensor(W)
    out = hebbian_linear(x, w, rule=rule, normalise="none", **options, backend=backend)
    assert out.u.tolist() == [[1.0, 2.5], [3.0, 0.5]]
    for row, want in zip(out.delta_w.tolist(), expected, strict=True):
        assert row == pytest.approx(want, abs=1e-5)
    mean = hebbian_linear(x, w, rule=rule, normalise="mean", **options, backend=backend)
    torch.testing.assert_close(mean.delta_w, out.delta_w / 2)
    most = hebbian_linear(x, w, rule=rule, normalise="max", **options, backend=backend)
    torch.testing.assert_close(most.delta_w, out.delta_w / out.delta_w.abs().max())
    if counts is not None:
        share = hebbian_linear(x, w, rule=rule, counts=counts, **options, backend=backend)
        torch.testing.assert_close(share.delta_w, out.delta_w / torch.tensor([[2.0], [5.0]]))


def test_statistics():
    x, w = torch.tensor(X), torch.tensor(W)
    found = {rule: hebbian_linear(x, w, rule=rule, **given(rule)).statistic for rule in LITERAL}
    assert found.pop("instar").tolist() == [1.0, 1.0]
    assert found.pop("kmeans").tolist() == [1.0, 1.0]
    assert found.pop("bcm").tolist() == [10.0, 6.5]
    # y = [[-1.5, 2.5], [2.5, .5]]
    assert found.pop("similarity").tolist() == [[8.5, -2.5], [-2.5, 6.5]]
    assert found.pop("nonnegative_similarity").tolist() == [[10.0, 4.0], [4.0, 6.5]]
    assert all(statistic is None for statistic in found.values())


def test_a_third_factor():
    x, w, m = torch.tensor(X), torch.tensor(W), torch.tensor([2.0, -1.0])
    out = hebbian_linear(x, w, rule="oja", normalise="none", modulator=m)
    # sum m u x = [2-9, 4+3], [5-1.5, 10+.5]; sum m u^2 = 2 - 9 = -7 and 12.5 - .25 = 12.25
    assert out.delta_w.tolist() == [[0.0, 7.0], [3.5 - 6.125, 10.5 - 12.25]]
    whole = hebbian_linear(x, w, rule="oja", normalise="none", modulator=torch.ones(2))
    plain = hebbian_linear(x, w, rule="oja", normalise="none")
    assert torch.equal(whole.delta_w, plain.delta_w)


def test_decay():
    x, w = torch.tensor(X), torch.tensor(W)
    out = hebbian_linear(x, w, rule="hebb", normalise="none", decay=0.25)
    assert out.delta_w.tolist() == [[9.5, -1.0], [3.75, 4.0]]  # two positions, a quarter each


def test_a_handicap_moves_the_win():
    x, w = torch.tensor(X), torch.tensor(W)
    out = hebbian_linear(x, w, rule="instar", wta="hard", threshold=torch.tensor([0.0, 2.0]))
    assert out.u.tolist() == [[1.0, 2.5], [3.0, 0.5]]
    assert out.statistic.tolist() == [2.0, 0.0]


def test_a_rule_of_ones_own():
    x, w = torch.tensor(X), torch.tensor(W)
    own = Rule(activity="linear", gain="activity", normalise="none")
    out = hebbian_linear(x, w, rule=own)
    assert out.delta_w.tolist() == [[6.0, -1.0], [2.5, 1.5]]  # less sum u = 4 and 3
    assert out.statistic.tolist() == [4.0, 3.0]


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_steps(backend):
    x = torch.tensor(X)
    w = torch.tensor(W)
    factor = torch.tensor([0.5, 0.0])
    out = hebbian_linear_step_(
        x, w, rule="hebb", normalise="none", lr=0.2, neuron_rates=factor, backend=backend
    )
    assert out.u.tolist() == [[1.0, 2.5], [3.0, 0.5]]
    assert w.tolist() == [literal([2.0, -0.1]), [0.5, 1.0]]
    w = torch.tensor(W)
    hebbian_linear_step_(
        x,
        w,
        rule="hebb",
        normalise="none",
        lr=0.2,
        neuron_rates=factor,
        unit_norm=True,
        backend=backend,
    )
    norm = math.hypot(2.0, 0.1)
    assert w.tolist() == [literal([2.0 / norm, -0.1 / norm]), [0.5, 1.0]]


def test_a_step_of_a_given_direction():
    w, d = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    hebbian_step_(w, d, 1.0, 0.0, unit_norm=True)
    assert w.tolist() == [literal([0.6, 0.8]), [0.0, 0.0]]
    hebbian_step_(w, torch.ones(2, 2), 1.0, 0.0, neuron_rates=torch.tensor([0.0, 2.0]))
    assert w.tolist() == [literal([0.6, 0.8]), [2.0, 2.0]]


def test_settled_neurons():
    u, m = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.5, 0.0]])
    assert settle(u, m).tolist() == [literal([-2.0, 3.0])]  # y0 = 1 - y1, y1 = 2 - y0 / 2
    rectified = settle(u, m, rectified=True)
    assert rectified.tolist()[0] == pytest.approx([0.0, 2.0], abs=0.02)  # y0 = relu(1 - 2)


WRONG = {
    "no target": ({"rule": "teacher"}, "target must be given"),
    "a target too many": ({"rule": "oja", "target": torch.ones(2, 2)}, "target must be None"),
    "indices": ({"rule": "teacher", "target": torch.tensor([0, 2])}, "class indices from 0 to 1"),
    "modulator": ({"modulator": torch.ones(3)}, "modulator must be"),
    "threshold": ({"rule": "bcm", "threshold": torch.ones(3)}, r"threshold must be \[2\]"),
    "lateral": ({"rule": "similarity", "lateral": torch.ones(2)}, r"lateral must be \[2, 2\]"),
    "counts": ({"rule": "kmeans"}, "counts must be given"),
    "count": ({"rule": "oja", "normalise": "count"}, "normalise must not be 'count'"),
    "wta": ({"rule": "kmeans", "wta": "soft"}, "wta must be 'hard'"),
    "rule": ({"rule": "oya"}, "rule must be one of"),
    "decay": ({"decay": -1.0}, "decay must be finite and not negative"),
    "normalise": ({"normalise": "sum"}, "normalise must be one of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        hebbian_linear(torch.tensor(X), torch.tensor(W), **options)
