"""The providers of rules, and the cases in which they are timed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from softhebb_fast import backends
from softhebb_fast.bench import fasthebb, providers
from softhebb_fast.bench.cases import registry
from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.runner import _row
from softhebb_fast.bench.worker import Plan, complaint
from softhebb_fast.kinds import RULES
from tests.bench.tiny import PERCEPTRON, case

CPU = torch.device("cpu")


def by(rule: str, net=None):
    tiny = case("layer") if net is None else case("layer", net=net)
    return replace(tiny, parts=tuple(replace(part, rule=rule) for part in tiny.parts))


@pytest.mark.parametrize("net", [None, PERCEPTRON], ids=["conv", "linear"])
@pytest.mark.parametrize("rule", fasthebb.RULES)
@pytest.mark.parametrize("name", ["fasthebb", "naive"])
def test_matrices_and_explicit_updates_do_what_the_reference_does(name, rule, net, monkeypatch):
    monkeypatch.setattr(fasthebb, "MOST", 5000)  # positions in several parts
    with torch.no_grad():
        assert complaint(by(rule, net), PROVIDERS[name], CPU) is None


@pytest.mark.parametrize("net", [None, PERCEPTRON], ids=["conv", "linear"])
@pytest.mark.parametrize("rule", RULES)
def test_this_package_makes_every_rule_s_step(rule, net):
    backend = "cpp" if backends.why_not("cpp", CPU) is None else "reference"
    provider = replace(PROVIDERS["cpp"], backend=backend, makes=providers._own(backend))
    with torch.no_grad():
        assert complaint(by(rule, net), provider, CPU) is None


def test_every_rule_has_a_case_of_each_layer_at_two_batches():
    for rule in RULES:
        for number in (1, 2, 3):
            for batch in (10, 100):
                found = registry()[f"rules/{rule}/layer{number}/b{batch}"]
                assert found.rules == {rule}
                like = registry()[f"cifar10/layer{number}/b{batch}"]
                assert (found.kind, found.flops) == (like.kind, like.flops)


def test_of_large_layers_the_explicit_update_is_timed_on_some_samples():
    naive, large = PROVIDERS["naive"], registry()["rules/oja/layer3/b100"]
    part = naive.part(large)
    assert (part.batch, part.calls) == (1, 100)
    assert naive.memory(large) < 2 << 30
    middle = naive.part(registry()["rules/oja/layer2/b10"])
    assert (middle.batch, middle.calls) == (2, 5)
    small = registry()["rules/oja/layer1/b10"]
    assert naive.part(small) == small
    assert PROVIDERS["fasthebb"].part(large) is large


def test_a_part_that_is_timed_counts_for_the_whole():
    naive = replace(PROVIDERS["naive"], most=1)
    row = _row(by("oja"), naive, Plan(), [0.2, 0.2, 0.2], None)
    assert (row.calls, row.median) == (3, pytest.approx(0.6))


def test_who_serves_which_rule():
    oja, kmeans = by("oja"), by("kmeans")
    assert PROVIDERS["tuned"].why_not(oja, CPU) == "has no rule oja"
    assert PROVIDERS["published"].why_not(oja, CPU) == "has no rule oja"
    assert PROVIDERS["fasthebb"].why_not(oja, CPU) is None
    assert PROVIDERS["naive"].why_not(kmeans, CPU) == "has no rule kmeans"
    assert PROVIDERS["library"].why_not(kmeans, CPU) is None
    assert PROVIDERS["tuned"].why_not(by("softhebb"), CPU) is None
    assert PROVIDERS["fasthebb"].why_not(case("step"), CPU) == "has no step"
