"""Rules by name in layers, layer strings and presets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softhebb_fast import kinds
from softhebb_fast.presets import (
    RULE_NAMES,
    TAUGHT,
    Layer,
    format_layer,
    format_network,
    get_preset,
    parse_layer,
    parse_network,
    with_rule,
)
from softhebb_fast.presets.types import STARTS

OTHERS = [name for name in kinds.RULES if name != "softhebb"]
NET = get_preset("4SoftHebbCnnCIFAR")


@pytest.mark.parametrize("rule", OTHERS)
def test_a_layer_of_every_rule_is_written_and_read(rule):
    shape = "-c8" if rule in TAUGHT else "-c8-k3-p1"
    layer = parse_layer(f"{rule}{shape}-t2:triangle_0.7")
    assert (layer.rule, layer.hebbian, layer.t_invert) == (rule, True, 2.0)
    assert layer.lr_power == kinds.RULES[rule].lr_power == 0
    assert (layer.lr, layer.radius) == (STARTS[rule]["lr"], STARTS[rule]["radius"])
    assert parse_layer(format_layer(layer)) == layer
    changed = replace(layer, lr=0.125, lr_power=0.5, radius=3.0)
    assert parse_layer(format_layer(changed)) == changed


def test_krotov_has_the_numbers_of_its_paper():
    layer = parse_layer("krotov-c8-k3")
    assert (layer.delta, layer.rank, layer.wta) == (0.4, 2, "hard_anti")
    assert format_layer(layer) == "krotov-c8-k3"
    assert "krotov delta=0.4 rank=2 lr=0.02 q=0 R=1" in str(layer)
    with pytest.raises(ValueError, match="no key stands for rank=3"):
        format_layer(replace(layer, rank=3))
    hard = parse_layer("hardkrotov-c8-k3")
    assert (hard.delta, hard.rank, hard.lr_power) == (2.0, 3, 0.75)


def test_who_competes():
    competing = {rule: parse_layer(f"{rule}-c8").wta for rule in OTHERS}
    expected = {"krotov": "hard_anti", "instar": "soft", "kmeans": "hard"}
    assert competing == dict.fromkeys(OTHERS) | expected
    assert [parse_layer(f"{name}-c8").wta for name in kinds.WTA] == list(kinds.WTA)
    assert parse_layer("supervised").wta is None
    assert " t=" in str(parse_layer("instar-c8"))
    assert " t=" not in str(parse_layer("oja-c8"))


def test_softhebb_is_another_word():
    assert parse_layer("softhebb-c8-k3") == parse_layer("softkrotov-c8-k3")


@pytest.mark.parametrize("rule", TAUGHT)
def test_what_learns_labels_is_linear_and_may_be_last(rule):
    net = parse_network(f"hard-c8-k3 {rule}:flatten")
    assert (net.layers[-1].out, net.layers[-1].learns_labels) == (None, True)
    with pytest.raises(ValueError, match=f"rule '{rule}' exists for linear layers.*got a conv"):
        Layer("conv", rule, 8, 3)
    with pytest.raises(ValueError, match=f"'{rule}' does not fit layer 0 of 4SoftHebbCnnCIFAR"):
        with_rule(NET, rule)


def test_another_rule_for_a_preset():
    other = with_rule(NET, "oja")
    assert other.name == "4SoftHebbCnnCIFAR_oja"
    assert other.layers[-1] == NET.layers[-1]
    for old, new in zip(NET.layers[:-1], other.layers[:-1], strict=True):
        assert (new.rule, new.lr, new.lr_power, new.radius) == ("oja", STARTS["oja"]["lr"], 0, 1)
        kept = ("out", "kernel", "padding", "t_invert", "activation", "pool", "batch_norm")
        assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
    assert parse_network(format_network(other), other.name).layers == other.layers


def test_the_rule_that_is_there_changes_nothing():
    assert with_rule(NET, "softhebb") is NET
    assert with_rule(NET, "soft_anti") is NET
    hard = with_rule(NET, "hard")
    assert {layer.rule for layer in hard.layers[:-1]} == {"hard"}
    assert with_rule(hard, "softhebb").layers[0].rule == "soft_anti"


def test_layers_by_backpropagation_keep_to_it():
    mixed = parse_network("soft-c4-k3 BP-c8-k3:relu supervised")
    assert [layer.rule for layer in with_rule(mixed, "hebb").layers] == ["hebb", "bp", "supervised"]


@pytest.mark.parametrize(
    ("preset", "rule", "message"),
    [
        ("4SoftHebbCnnCIFAR", "ojas", f"rule must be one of {', '.join(RULE_NAMES)}; got 'ojas'"),
        ("4SoftHebbCnnCIFAR", "bp", "rule must be one of"),
        ("3CnnCIFAR", "oja", "3CnnCIFAR, which has no Hebbian layer"),
    ],
)
def test_rules_that_cannot_be_had(preset, rule, message):
    with pytest.raises(ValueError, match=message):
        with_rule(get_preset(preset), rule)
