"""The networks by name against their published tables, and the notation against its rules."""

from __future__ import annotations

import ast
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softhebb_fast.presets
from softhebb_fast.presets import (
    ACTIVATIONS,
    PRESETS,
    Layer,
    Pool,
    Preset,
    Protocol,
    format_layer,
    format_network,
    get_preset,
    parse_activation,
    parse_layer,
    parse_network,
    parse_pool,
    protocol,
    scaled,
)

SOFTHEBB = """
    2SoftMlpMNIST 2SoftMlpMNIST_linearDecay
    2SoftHebbCnnCIFAR 2HardCnnCIFAR 2HardCnnCIFAR_speed 2HardCnnCIFA_speed_linearDecay
    2CnnCIFAR 3CnnCIFAR 4CnnCIFAR
    3SoftHebbCnnCIFAR 3SoftHebbCnnCIFAR_wf2 3SoftHebbCnnCIFAR_wf1 3HardCnnCIFAR
    4SoftHebbCnnCIFAR 4SoftHebbCnnCIFAR_doubleNeurons 4SoftHebbCnnCIFAR_halfNeurons
    4SoftHebbCnnCIFAR_quarterNeurons 4SoftHebbCnnCIFAR_wf2 4SoftHebbCnnCIFAR_wf1
    4SoftHebbCnnCIFAR_HebbClassifier 4SoftHebbCnnCIFAR_noBatchNorm 4HardCnnCIFAR
    5SoftHebbCnnSTL 4SoftHebbCnnSTL 4CnnSTL 5CnnSTL
    2HardCnnImNet 3HardCnnImNet 4HardCnnImNet 5HardCnnImNet 6HardCnnImNet
    2SoftHebbCnnImNet 3SoftHebbCnnImNet 4SoftHebbCnnImNet 5SoftHebbCnnImNet
    2CnnImNet 3CnnImNet 4CnnImNet 5CnnImNet 6CnnImNet 6SoftHebbCnnImNet
"""
ZERO = """
    2SoftHebbZerOCIFAR10 2SoftHebbZerOMNIST
    4SoftHebbCnnZerOMNIST 4SoftHebbCnnZerOMNIST_halfNeurons 4SoftHebbCnnZerOMNIST_doubleNeurons
    4SoftHebbCnnZerOMNIST_wf1 4SoftHebbCnnZerOMNIST_wf2 2SoftHebbCnnCIFAR_zero
"""

GEOMETRY = ("rule", "out", "kernel", "padding", "groups", "batch_norm", "activation", "pool")
RATES = ("t_invert", "lr", "lr_power", "radius")
MAX, MAX2 = Pool("max", 4, 2, 1), Pool("max", 2, 2, 0)
AVG, AVG2 = Pool("avg", 4, 2, 1), Pool("avg", 2, 2, 0)


def tri(power):
    return ("triangle", power)


RELU = ("relu", 1.0)

# rule, out, kernel, padding, groups, batch norm, activation, pool [, t, eta, q, R]
TABLES = {
    "4SoftHebbCnnCIFAR": [
        ("soft_anti", 96, 5, 2, 1, True, tri(0.7), MAX, 1, 0.08, 0.5, 25),
        ("soft_anti", 384, 3, 1, 1, True, tri(1.4), MAX, 0.65, 0.005, 0.5, 25),
        ("soft_anti", 1536, 3, 1, 1, True, tri(1.0), AVG2, 0.25, 0.01, 0.5, 25),
    ],
    "4SoftHebbCnnZerOMNIST": [
        ("soft_anti", 96, 3, 2, 1, True, tri(0.7), MAX, 1, 0.08, 0.5, 25),
        ("soft_anti", 384, 4, 1, 1, True, tri(1.4), MAX, 0.65, 0.003, 0.3, 25),
        ("soft_anti", 1536, 1, 1, 1, True, tri(1.0), AVG2, 0.25, 0.001, 0.1, 25),
    ],
    "6HardCnnImNet": [
        ("hard", 48, 7, 3, 1, True, tri(1.0), MAX, 96, 0.05, 0.75, 25),
        ("hard", 192, 5, 2, 1, True, tri(1.0), MAX, 96, 0.03, 0.75, 25),
        ("hard", 768, 3, 1, 1, True, tri(1.0), MAX, 96, 0.02, 0.75, 25),
        ("hard", 3072, 3, 1, 1, True, tri(1.0), MAX, 96, 0.01, 0.75, 25),
        ("hard", 12288, 1, 0, 768, True, tri(1.0), MAX2, 96, 0.02, 0.75, 25),
    ],
    "2SoftMlpMNIST": [
        ("soft", 2000, 0, 0, 1, False, ("softmax", 5.0), None, 12, 0.045, 0.2, 35),
    ],
    "5CnnSTL": [
        ("bp", 96, 7, 3, 1, True, RELU, MAX),
        ("bp", 384, 5, 2, 1, True, RELU, MAX),
        ("bp", 1536, 3, 1, 1, True, RELU, MAX),
        ("bp", 6144, 3, 1, 1, True, RELU, AVG2),
    ],
    "2SoftHebbCnnCIFAR": [
        ("soft_anti", 96, 5, 2, 1, True, tri(0.7), AVG, 1, 0.08, 0.5, 25),
    ],
    "2SoftHebbCnnCIFAR_zero": [
        ("soft_anti", 128, 3, 2, 1, True, tri(0.7), AVG, 1, 0.07, 0.4, 25),
    ],
    "2WhitenedSoftHebbCnnCIFAR": [
        ("soft_anti", 2048, 6, 0, 1, False, tri(1), None, 4, 0.04, 0.5, 6),
    ],
    "3WhitenedSoftHebbCnnCIFAR": [
        ("soft_anti", 128, 5, 2, 1, False, tri(1), Pool("avg", 3, 2, 1), 4, 0.04, 0.5, 3),
        ("soft_anti", 1024, 3, 0, 1, False, ("split", 1), None, 4, 0.04, 0.5, 3),
    ],
    "DemoMNIST": [
        ("soft_anti", 1000, 0, 0, 1, False, tri(1), None, 12, 0.1, 0.5, 5),
    ],
}


@pytest.mark.parametrize("name", TABLES)
def test_preset_matches_its_table(name):
    *hidden, head = PRESETS[name].layers
    for layer, row in zip(hidden, TABLES[name], strict=True):
        columns = GEOMETRY + RATES[: len(row) - len(GEOMETRY)]
        assert tuple(getattr(layer, column) for column in columns) == row
        assert (layer.stride, layer.dilation, layer.lebesgue_p, layer.rank) == (1, 1, 2.0, 3)
        assert (layer.schedule, layer.padding_mode) == ("norm", "reflect")
        assert (layer.bias, layer.pre_triangle, layer.dropout) == (False, False, 0.0)
        assert layer.hebbian == (layer.rule != "bp")
    dropout = 0.0 if "Mlp" in name or PRESETS[name].source == "softhebb_fast" else 0.5
    assert head == Layer("linear", "bp", dropout=dropout)
    assert (head.out, PRESETS[name].lr_supervised) == (None, 1e-3)


def test_names_and_sources():
    assert [(name, preset.name, preset.source) for name, preset in PRESETS.items()] == [
        *((name, name, "SoftHebb") for name in SOFTHEBB.split()),
        *((name, name, "ZerO-SoftHebb") for name in ZERO.split()),
        ("DemoMNIST", "DemoMNIST", "softhebb_fast"),
        ("2WhitenedSoftHebbCnnCIFAR", "2WhitenedSoftHebbCnnCIFAR", "softhebb_fast"),
        ("3WhitenedSoftHebbCnnCIFAR", "3WhitenedSoftHebbCnnCIFAR", "softhebb_fast"),
        ("Linear", "Linear", "softhebb_fast"),
    ]


def test_the_leading_digit_counts_the_layers():
    for name in (SOFTHEBB + ZERO).split():
        assert len(PRESETS[name].layers) == int(name[0])


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["new"] = PRESETS["DemoMNIST"]
    with pytest.raises(FrozenInstanceError):
        PRESETS["DemoMNIST"].layers[0].lr = 1.0


def test_exceptional_presets():
    pre_triangle = {
        name for name, preset in PRESETS.items() if any(x.pre_triangle for x in preset.layers)
    }
    assert pre_triangle == {f"3SoftHebbCnnCIFAR{suffix}" for suffix in ("", "_wf1", "_wf2")}

    decaying = {
        (name, layer.lr, layer.radius)
        for name, preset in PRESETS.items()
        for layer in preset.layers
        if layer.schedule == "linear"
    }
    assert decaying == {
        ("2SoftMlpMNIST_linearDecay", 0.045, 35),
        ("2HardCnnCIFA_speed_linearDecay", 0.025, 10.0),
        ("4SoftHebbCnnCIFAR_HebbClassifier", 0.045, 35),
    }

    less_dropout = {name for name, preset in PRESETS.items() if preset.layers[-1].dropout == 0.4}
    assert less_dropout == {
        "4SoftHebbCnnSTL",
        "4CnnSTL",
        "4HardCnnImNet",
        "4SoftHebbCnnImNet",
        "4CnnImNet",
    }

    plain = {
        name
        for name, preset in PRESETS.items()
        if any(x.kind == "conv" and not (x.batch_norm or x.whiten) for x in preset.layers)
    }
    assert plain == {"4SoftHebbCnnCIFAR_noBatchNorm"}

    labels = PRESETS["4SoftHebbCnnCIFAR_HebbClassifier"].layers[-1]
    assert (labels.rule, labels.out, labels.t_invert, labels.hebbian) == (
        "supervised",
        None,
        12,
        True,
    )


def test_imagenet_rates_and_temperatures():
    column = {
        name: [(layer.t_invert, layer.lr, layer.radius) for layer in PRESETS[name].layers[:-1]]
        for name in ("4SoftHebbCnnImNet", "5SoftHebbCnnImNet", "6SoftHebbCnnImNet")
    }
    assert column == {
        "4SoftHebbCnnImNet": [(1, 0.07, 2), (0.7, 0.03, 2), (0.5, 0.02, 2)],
        "5SoftHebbCnnImNet": [(1, 0.05, 2), (0.7, 0.03, 2), (0.7, 0.02, 2), (0.5, 0.01, 2)],
        "6SoftHebbCnnImNet": [
            (1.1, 0.08, 25),
            (0.7, 0.01, 25),
            (0.5, 0.01, 25),
            (0.4, 0.01, 25),
            (0.25, 0.01, 25),
        ],
    }
    assert {x.lr_power for x in PRESETS["6SoftHebbCnnImNet"].layers[:-1]} == {0.75}


def outs(preset):
    return [layer.out for layer in preset.layers]


@pytest.mark.parametrize(
    ("base", "factors", "suffix", "expected"),
    [
        ("4SoftHebbCnnCIFAR", {"width_factor": 1}, "_wf1", [96, 96, 96]),
        ("4SoftHebbCnnCIFAR", {"width_factor": 2}, "_wf2", [96, 192, 384]),
        ("4SoftHebbCnnCIFAR", {"neuron_factor": 2}, "_doubleNeurons", [192, 768, 3072]),
        ("4SoftHebbCnnCIFAR", {"neuron_factor": 0.5}, "_halfNeurons", [48, 192, 768]),
        ("4SoftHebbCnnCIFAR", {"neuron_factor": 0.25}, "_quarterNeurons", [24, 96, 384]),
        ("3SoftHebbCnnCIFAR", {"width_factor": 1}, "_wf1", [96, 96]),
        ("3SoftHebbCnnCIFAR", {"width_factor": 2}, "_wf2", [96, 192]),
        ("4SoftHebbCnnZerOMNIST", {"width_factor": 1}, "_wf1", [96, 96, 96]),
        ("4SoftHebbCnnZerOMNIST", {"width_factor": 2}, "_wf2", [96, 192, 384]),
        ("4SoftHebbCnnZerOMNIST", {"neuron_factor": 2}, "_doubleNeurons", [192, 768, 3072]),
        ("4SoftHebbCnnZerOMNIST", {"neuron_factor": 0.5}, "_halfNeurons", [48, 192, 768]),
    ],
)
def test_published_variant_is_the_scaled_base(base, factors, suffix, expected):
    assert get_preset(base, **factors) == PRESETS[base + suffix]
    assert outs(PRESETS[base + suffix]) == [*expected, None]


def test_factors():
    base = PRESETS["4SoftHebbCnnCIFAR"]
    assert get_preset("4SoftHebbCnnCIFAR") is base
    assert get_preset("4SoftHebbCnnCIFAR", width_factor=4) is base
    both = get_preset("4SoftHebbCnnCIFAR", width_factor=1.5, neuron_factor=0.5)
    assert outs(both) == [48, 72, 108, None]
    assert both.name == "4SoftHebbCnnCIFAR_wf1.5_halfNeurons"
    assert outs(get_preset("2SoftMlpMNIST", neuron_factor=0.1)) == [200, None]
    assert outs(get_preset("6HardCnnImNet", neuron_factor=0.25)) == [12, 48, 192, 768, 3072, None]


@pytest.mark.parametrize(
    ("name", "factors", "message"),
    [
        ("DemoMNIST", {"neuron_factor": 0.0001}, r"neuron_factor=0.0001: .*out must be .*got 0"),
        ("DemoMNIST", {"neuron_factor": 0}, "neuron_factor must be a positive number"),
        ("DemoMNIST", {"width_factor": -1}, "width_factor must be a positive number"),
        ("DemoMNIST", {"width_factor": float("nan")}, "width_factor must be a positive number"),
        ("6HardCnnImNet", {"neuron_factor": 0.125}, "groups=768, which must divide the 384"),
        ("6HardCnnImNet", {"neuron_factor": 1.01}, "out=12411, groups=768"),
    ],
)
def test_factors_that_do_not_fit(name, factors, message):
    with pytest.raises(ValueError, match=message):
        get_preset(name, **factors)


def test_unknown_name_suggests_close_ones():
    with pytest.raises(ValueError, match=r"'4softhebbcnncifar'.*did you mean 4SoftHebbCnnCIFAR"):
        get_preset("4softhebbcnncifar")
    with pytest.raises(ValueError, match="see PRESETS"):
        get_preset("zzz")


def test_describe():
    assert PRESETS["4CnnCIFAR"].describe().splitlines() == [
        "4CnnCIFAR  [SoftHebb]  Adam 0.001",
        "  conv        96  k5 p2  bp  bn relu(1) max 4/2/1",
        "  conv       384  k3 p1  bp  bn relu(1) max 4/2/1",
        "  conv      1536  k1 p0 g192  bp  bn relu(1) max 2/2/0",
        "  linear classes  bp  dropout 0.5",
    ]
    assert PRESETS["2SoftMlpMNIST_linearDecay"].describe().splitlines()[1] == (
        "  linear    2000  soft t=12 lr=0.045 linear decay R=35  softmax(5)"
    )
    layer = Layer("conv", "hard_anti", 8, kernel=3, stride=2, lebesgue_p=3, bias=True)
    assert str(layer) == (
        "conv         8  k3 p0 s2  hard_anti delta=2 rank=3 lr=0.009 q=0.75 R=25 lp=3  bn bias"
    )


def test_layer_defaults_depend_on_the_kind():
    names = ("t_invert", "lr", "lr_power", "radius", "delta", "rank", "batch_norm")
    conv = Layer("conv", "soft_anti", 8, kernel=3)
    linear = Layer("linear", "soft", 8)
    assert [getattr(conv, name) for name in names] == [96, 0.009, 0.75, 25, 2, 3, True]
    assert [getattr(linear, name) for name in names] == [10, 0.05, 0.2, 10, 0.1, 3, False]


CONV = {"kind": "conv", "rule": "soft_anti", "out": 8, "kernel": 3}
LINEAR = {"kind": "linear", "rule": "soft", "out": 8}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (CONV | {"kind": "dense"}, "kind must be one of 'conv', 'linear', got 'dense'"),
        (CONV | {"rule": "softkrotov"}, "rule must be one of 'soft_anti'"),
        (CONV | {"rule": "supervised"}, "rule 'supervised' exists for linear layers"),
        (CONV | {"out": None}, "out must be a whole number >= 1, got None"),
        (LINEAR | {"out": None}, "out must be a whole number >= 1, got None"),
        (CONV | {"out": 96.0}, "out must be a whole number >= 1, got 96.0"),
        (CONV | {"kernel": 0}, "kernel must be a whole number >= 1, got 0"),
        (CONV | {"stride": 0}, "stride must be a whole number >= 1, got 0"),
        (CONV | {"padding": -1}, "padding must be a whole number >= 0, got -1"),
        (CONV | {"groups": 3}, "out=8, groups=3"),
        (CONV | {"lr": -0.1}, "lr must be a finite number >= 0, got -0.1"),
        (CONV | {"lr": "0.1"}, "lr must be a finite number >= 0, got '0.1'"),
        (CONV | {"t_invert": 0}, "t_invert must be a finite number > 0, got 0"),
        (CONV | {"radius": float("inf")}, "radius must be a finite number > 0, got inf"),
        (CONV | {"dropout": 1.0}, r"dropout must be below 1, got 1\.0"),
        (CONV | {"schedule": "cosine"}, "schedule must be one of 'norm'"),
        (CONV | {"padding_mode": "same"}, "padding_mode must be one of 'reflect'"),
        (CONV | {"activation": ("gelu", 1.0)}, "activation must be None or"),
        (CONV | {"activation": "relu"}, "activation must be None or"),
        (LINEAR | {"padding": 1}, "padding is for conv layers, got 1"),
        (LINEAR | {"batch_norm": True}, "batch_norm is for conv layers, got True"),
        (LINEAR | {"pool": AVG}, "pool is for conv layers"),
    ],
)
def test_layer_rejects(fields, message):
    with pytest.raises(ValueError, match=message):
        Layer(**fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("min", 2, 2, 0), "kind must be one of 'max', 'avg', got 'min'"),
        (("max", 0, 2, 0), "kernel must be a whole number >= 1, got 0"),
        (("max", 2, 0, 0), "stride must be a whole number >= 1, got 0"),
        (("avg", 3, 2, 2), "padding must be at most kernel // 2 = 1, got 2"),
    ],
)
def test_pool_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pool(*arguments)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "layers must be a tuple of one Layer or more"),
        ((Layer(**LINEAR), Layer(**CONV)), "layer 1 is a conv after a linear layer"),
        ((Layer("linear", "bp"), Layer("linear", "bp")), "layer 1 follows .* out=None"),
        ((Layer(**CONV), Layer("conv", "hard", 6, 3, groups=3)), "groups=3, which must divide"),
    ],
)
def test_preset_rejects(layers, message):
    with pytest.raises(ValueError, match=message):
        Preset("net", layers)


def test_preset_rejects_rate_and_source():
    with pytest.raises(ValueError, match="lr_supervised must be a finite number > 0, got 0"):
        Preset("net", (Layer(**CONV),), lr_supervised=0)
    with pytest.raises(ValueError, match="source must be one of"):
        Preset("net", (Layer(**CONV),), "elsewhere")


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("mnist", (1, 32, 10, 32, 1000, False, False)),
        ("FashionMNIST", (1, 64, 100, 64, 1000, False, False)),
        ("CIFAR-10", (1, 10, 50, 64, 1000, False, False)),
        ("cifar_100", (1, 10, 50, 64, 1000, False, False)),
        ("STL10", (1, 32, 100, 64, 64, True, True)),
        ("imagenette", (1, 10, 200, 32, 32, True, False)),
        ("imagenet", (1, 10, 200, 32, 32, True, False)),
        ("my-data", (1, 32, 50, 64, 1000, False, False)),
    ],
)
def test_protocol(dataset, expected):
    assert protocol(dataset) == Protocol(protocol(dataset).dataset, *expected)


def test_protocol_keeps_the_name_of_unknown_data():
    assert protocol("My-Data").dataset == "My-Data"
    assert protocol("CIFAR-10").dataset == "cifar10"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "softkrotov-c96-k5-p2-t1-lr0.08-lp0.5",
            Layer("conv", "soft_anti", 96, 5, 2, t_invert=1.0, lr=0.08, lr_power=0.5),
        ),
        (
            "SoftKrotov-C384-K3-P1-S2-D2-G4-E1-B1-V0-M0.5:none:triangle_1.4:max_4_2_1",
            Layer(
                "conv",
                "soft_anti",
                384,
                3,
                1,
                stride=2,
                dilation=2,
                groups=4,
                pre_triangle=True,
                bias=True,
                schedule="linear",
                batch_norm=False,
                activation=("triangle", 1.4),
                pool=MAX,
            ),
        ),
        ("hardkrotov-c8-k3-a.4", Layer("conv", "hard_anti", 8, 3, delta=0.4)),
        ("hard-c8-k3-r2-lb3-v1", Layer("conv", "hard", 8, 3, radius=2.0, lebesgue_p=3.0)),
        ("soft-c2000-lr1e-05-t12", Layer("linear", "soft", 2000, lr=1e-5, t_invert=12.0)),
        ("soft-c20:softmax_5:flatten", Layer("linear", "soft", 20, activation=("softmax", 5.0))),
        (
            "soft-c20:unitlength:relu",
            Layer("linear", "soft", 20, activation=RELU, unit_length=True),
        ),
        ("supervisedsoftkrotov-c10", Layer("linear", "supervised", 10)),
        ("BP-c10:dropout_0.5", Layer("linear", "bp", 10, dropout=0.5)),
        ("BP", Layer("linear", "bp")),
        ("bp-c96-k5:relu:batchnorm2d", Layer("conv", "bp", 96, 5, activation=("relu", 1.0))),
        ("soft_anti-c96-k5", Layer("conv", "soft_anti", 96, 5)),
    ],
)
def test_parse_layer(text, expected):
    assert parse_layer(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("krotof-c96", "layer 'krotof-c96': unknown method 'krotof'; known are softkrotov"),
        ("", "unknown method ''"),
        ("soft-c96-q5", "unknown key 'q' in 'q5'; known are c, k, p"),
        ("soft-c96-5", "unknown key '' in '5'"),
        ("soft-c96-", "unknown key '' in ''"),
        ("soft-c96-lr0.1.2", r"'lr0\.1\.2': expected a number, got '0\.1\.2'"),
        ("soft-c96-lr", "'lr': expected a number, got ''"),
        ("soft-c96-lrnan", "unknown key 'lrnan'"),
        ("soft-c9.5", r"'c9\.5': expected a whole number, got '9\.5'"),
        ("soft-c96-b2", "'b2': expected 0 or 1, got '2'"),
        ("soft-c96-k3-c96", "'c96' gives key 'c' a second time"),
        ("soft-k3", "out must be a whole number >= 1, got None"),
        ("soft-c96-p2", "padding is for conv layers, got 2 for a linear one"),
        ("soft-c96-g5-k3", "out=96, groups=5"),
        ("supervisedsoftkrotov-c10-k3", "rule 'supervised' exists for linear layers"),
        ("soft-c96-k3:flatten", "unknown piece 'flatten'; a conv layer takes batchnorm2d"),
        ("soft-c96-k3:unitlength", "unknown piece 'unitlength'; a conv layer takes batchnorm2d"),
        ("soft-c96:batchnorm2d", "unknown piece 'batchnorm2d'; a linear layer takes flatten"),
        ("soft-c96-k3:gelu_1", "unknown piece 'gelu_1'"),
        ("soft-c96-k3:relu:triangle", "'triangle' gives activation a second time"),
        ("soft-c96-k3:max_4_2", "pool 'max_4_2': expected kind_kernel_stride_padding"),
        ("soft-c96-k3:triangle_x", "activation 'triangle_x': expected a number, got 'x'"),
        ("soft-c96-k3:dropout_2", "dropout must be below 1"),
    ],
)
def test_parse_layer_names_the_piece(text, message):
    with pytest.raises(ValueError, match=message):
        parse_layer(text)


def test_parse_pool_and_activation():
    assert parse_pool("max_4_2_1") == Pool("max", 4, 2, 1)
    assert parse_pool("AVG_2_2_0") == Pool("avg", 2, 2, 0)
    assert parse_activation("triangle_0.7") == ("triangle", 0.7)
    assert parse_activation("relu") == ("relu", 1.0)
    for text, message in [
        ("min_4_2_1", "pool 'min_4_2_1': Pool: kind must be"),
        ("max_4_x_1", "pool 'max_4_x_1': expected a whole number, got 'x'"),
        ("max_4_2_1_1", "expected kind_kernel_stride_padding"),
    ]:
        with pytest.raises(ValueError, match=message):
            parse_pool(text)
    with pytest.raises(ValueError, match="activation 'gelu': unknown name 'gelu'; known are"):
        parse_activation("gelu")


def test_parse_network():
    text = "softkrotov-c96-k5-p2-t1-lr0.08-lp0.5:triangle_0.7:avg_4_2_1 BP:dropout_0.5"
    assert parse_network(text).layers == PRESETS["2SoftHebbCnnCIFAR"].layers
    assert parse_network(text.split(), name="mine") == parse_network(f" {text}\n", name="mine")
    assert parse_network("hard-c8-k3 BP-c10-ls0.01") == Preset(
        "custom",
        (Layer("conv", "hard", 8, 3), Layer("linear", "bp", 10)),
        "softhebb_fast",
        lr_supervised=0.01,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "layers must be a tuple of one Layer or more"),
        ("BP-c10 hard-c8-k3", "conv after a linear layer"),
        ("BP-c10-ls0.1 BP-ls0.2", r"ls must be the same everywhere, got \[0\.1, 0\.2\]"),
        ("hard-c8-k3 BP-z1", "layer 'BP-z1': unknown key 'z'"),
    ],
)
def test_parse_network_rejects(text, message):
    with pytest.raises(ValueError, match=message):
        parse_network(text)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_written(name):
    preset = PRESETS[name]
    read = parse_network(format_network(preset), name=name)
    assert replace(read, source=preset.source) == preset


def test_format_layer():
    first = PRESETS["4SoftHebbCnnCIFAR"].layers[0]
    assert format_layer(first) == ("softkrotov-c96-k5-p2-t1-lr0.08-lp0.5:triangle_0.7:max_4_2_1")
    preset = parse_network("hard-c8-k3 BP-ls0.01:dropout_0.5")
    assert format_network(preset) == "hard-c8-k3 BP-ls0.01:dropout_0.5"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 2}, "no key stands for rank=2"),
        ({"padding_mode": "zeros"}, "no key stands for padding_mode='zeros'"),
        ({"schedule": "constant"}, "no key stands for schedule='constant'"),
    ],
)
def test_format_layer_refuses_what_has_no_key(fields, message):
    with pytest.raises(ValueError, match=message):
        format_layer(Layer(**CONV, **fields))


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
small = st.integers(min_value=1, max_value=5)


@st.composite
def layers(draw):
    conv = draw(st.booleans())
    rules = ["soft_anti", "soft", "hard", "hard_anti", "bp"] + ["supervised"] * (not conv)
    fields = {
        "rule": draw(st.sampled_from(rules)),
        "t_invert": draw(positive),
        "lr": draw(positive | st.just(0.0)),
        "lr_power": draw(positive),
        "lebesgue_p": draw(positive),
        "radius": draw(positive),
        "delta": draw(positive),
        "bias": draw(st.booleans()),
        "schedule": draw(st.sampled_from(["norm", "linear"])),
        "activation": draw(
            st.none()
            | st.tuples(st.sampled_from(ACTIVATIONS), st.floats(-1e9, 1e9)).map(
                lambda given: (given[0], 1.0 if given[0] in ("relu", "tanh") else given[1])
            )
        ),
        "dropout": draw(st.floats(0, 1, exclude_max=True)),
    }
    least = 2 if fields["activation"] and fields["activation"][0] == "topshare" else 1
    if not conv:
        return Layer("linear", out=draw(st.integers(least, 10**6)), **fields)
    groups, kernel = draw(small), draw(small)
    pool = st.builds(Pool, st.sampled_from(["max", "avg"]), st.just(kernel), small, st.just(0))
    return Layer(
        "conv",
        out=max(least, groups * draw(small)),
        kernel=kernel,
        padding=draw(small),
        stride=draw(small),
        dilation=draw(small),
        groups=groups,
        pre_triangle=draw(st.booleans()),
        batch_norm=draw(st.booleans()),
        pool=draw(st.none() | pool),
        **fields,
    )


@settings(max_examples=200, deadline=None)
@given(layers())
def test_parse_undoes_format(layer):
    assert parse_layer(format_layer(layer)) == layer


def test_scaled_takes_any_preset():
    net = parse_network("hard-c10-k3 hard-c10-k3 BP-c10", name="net")
    assert outs(scaled(net, width_factor=3, neuron_factor=0.5)) == [5, 15, 10]


BELOW = ("kinds", "naming", "scalars")
OWN_BELOW = [f"softhebb_fast.{name}" for name in BELOW]


def test_presets_import_the_standard_library_alone():
    """And the names of competitions and what is said of mistyped ones, which import no more."""
    roots, folder = set(), Path(softhebb_fast.presets.__file__).parent
    for path in (*folder.glob("*.py"), *(folder.with_name(f"{name}.py") for name in BELOW)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module in OWN_BELOW:
                assert path.parent == folder
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                roots.add(node.module.split(".")[0])
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1
    assert roots <= sys.stdlib_module_names


def test_groups_divide_the_channels_that_both_sides_of_a_mean_make():
    parse_network("softhebb-c3-k3:split softhebb-c4-k3-g2 bp")
    with pytest.raises(ValueError, match="must divide the 6 channels of the layer below"):
        parse_network("softhebb-c3-k3:split softhebb-c4-k3-g4 bp")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("softhebb-c3-k3:relu_5 bp", "'relu' has no parameter"),
        ("softhebb-c3-k3:tanh_3 bp", "'tanh' has no parameter"),
        ("softhebb-c1-k3:topshare_0.4 bp", "at least 2 neurons"),
    ],
)
def test_activations_whose_number_or_layer_does_not_fit(text, message):
    with pytest.raises(ValueError, match=message):
        parse_network(text)


def test_the_usual_share_of_active_units():
    assert parse_activation("topshare") == ("topshare", 0.4)
