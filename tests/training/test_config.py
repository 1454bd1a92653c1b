from __future__ import annotations

import dataclasses
import json

import pytest

from softhebb_fast.data import RandomCropFlip
from softhebb_fast.presets import get_preset, parse_network
from softhebb_fast.training.config import RunConfig

NET = "softkrotov-c8-k5-p2-t1-lr0.08-lp0.5:triangle_0.7:max_4_2_1 BP:dropout_0.5"


def config(**fields) -> RunConfig:
    return RunConfig(**{"preset": "DemoMNIST", "dataset": "mnist", **fields})


@pytest.mark.parametrize(
    "init",
    [
        None,
        "zerO",
        {"name": "zerO", "scale": "fork", "radius": 5.0},
        {0: "zerO", 2: {"name": "random_binary", "probability": 0.25}},
        ["normal", {"name": "constant", "value": 1.0}],
    ],
    ids=lambda init: type(init).__name__,
)
def test_json_gives_the_configuration_back(init):
    before = config(
        init=init, mode="consecutive", seed=7, width_factor=2.0, limit=100, augment=False
    )
    after = RunConfig.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before
    assert after.to_dict() == before.to_dict()
    assert before.to_dict()["mode"] == "consecutive"


def test_fields_that_are_left_open_take_their_defaults():
    assert config() == RunConfig.from_dict({"preset": "DemoMNIST", "dataset": "mnist"})
    assert (config().mode, config().seed, config().backend) == ("successive", 0, "auto")


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"unknown fields \['colour', 'epochs'\]"):
        RunConfig.from_dict({"preset": "a", "dataset": "b", "epochs": 1, "colour": 2})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mode", "together", "mode must be one of successive, consecutive, simultaneous"),
        ("backend", "cuda", "backend must be one of auto, reference, cpp, triton; got 'cuda'"),
        ("cache_dtype", "float64", "cache_dtype must be one of float32, bfloat16, float16"),
        ("tie_rule", "last", "tie_rule must be one of first, spread; got 'last'"),
        ("precision", "bf16", "precision must be one of ieee, bf16x3, bf16x6, tf32, tf32x3;"),
        ("seed", -1, "seed must be at least 0; got -1"),
        ("seed", 2**64, r"seed must be below 2\*\*64; got 18446744073709551616"),
        ("unsup_epochs", -1, "unsup_epochs must be at least 0; got -1"),
        ("probe_epochs", 0, "probe_epochs must be at least 1; got 0"),
        ("unsup_batch", 0, "unsup_batch must be at least 1; got 0"),
        ("probe_batch", 0, "probe_batch must be at least 1; got 0"),
        ("test_batch", 0, "test_batch must be at least 1; got 0"),
        ("limit", 0, "limit must be at least 1; got 0"),
        ("cache_gib", -0.5, "cache_gib must be at least 0; got -0.5"),
        ("cache_gib", float("nan"), "cache_gib must be at least 0; got nan"),
    ],
)
def test_values_out_of_range(field, value, message):
    with pytest.raises(ValueError, match=message):
        config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", None, "seed must be a whole number; got None"),
        ("seed", "1", "seed must be a whole number; got '1'"),
        ("limit", 10.0, "limit must be a whole number; got 10.0"),
        ("probe_epochs", True, "probe_epochs must be a whole number; got True"),
        ("cache_gib", "8", "cache_gib must be a number; got '8'"),
        ("autocast", "yes", "autocast must be a bool; got 'yes'"),
        ("preset", None, "preset must be a string; got None"),
        ("dataset", 1, "dataset must be a string; got 1"),
        ("init", print, "init must be of plain values"),
    ],
)
def test_values_of_another_kind(field, value, message):
    with pytest.raises(TypeError, match=message):
        config(**{field: value})


def test_nothing_can_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().seed = 1


@pytest.mark.parametrize(
    ("dataset", "protocol"),
    [
        ("mnist", (1, 32, 10, 32, 1000, False)),
        ("CIFAR-10", (1, 10, 50, 64, 1000, False)),
        ("stl10", (1, 32, 100, 64, 64, True)),
        ("imagefolder:somewhere", (1, 32, 50, 64, 1000, False)),
    ],
)
def test_open_fields_take_the_published_protocol(dataset, protocol):
    done = config(dataset=dataset).resolved()
    names = ("unsup_epochs", "unsup_batch", "probe_epochs", "probe_batch", "test_batch", "augment")
    assert tuple(getattr(done, name) for name in names) == protocol
    assert done.resolved() == done
    assert (done.dataset, done.preset) == (dataset, "DemoMNIST")


def test_fields_that_are_given_stay():
    given = {"unsup_epochs": 0, "probe_batch": 5, "augment": False, "test_batch": 1}
    done = config(dataset="stl10", **given).resolved()
    assert {name: getattr(done, name) for name in given} == given
    assert done.probe_epochs == 100


def test_crops_are_the_augmentation():
    assert config(dataset="cifar10").augmentation() is None
    assert config(dataset="cifar10", augment=True).augmentation() == RandomCropFlip()
    done = config(crops={"padding": 2, "flip": 0}, classifier="ridge", probe_epochs=3).resolved()
    assert done.augmentation() == RandomCropFlip(2, "reflect", 0.0)
    assert done.crops == {"padding": 2, "mode": "reflect", "flip": 0.0}
    assert (done.augment, done.probe_epochs) == (True, 3)
    assert RunConfig.from_dict(json.loads(json.dumps(done.to_dict()))) == done


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"crops": True}, TypeError, "crops must be a dict of flip, mode, padding; got True"),
        ({"crops": {"pad": 2}}, ValueError, "crops must hold flip, mode, padding; got pad"),
        ({"crops": {"padding": -1}}, ValueError, "padding must be at least 0"),
        ({"crops": {"flip": "no"}}, TypeError, "flip must be a number; got 'no'"),
        ({"crops": {}, "augment": False}, ValueError, "augment must not be False with crops"),
    ],
    ids=str,
)
def test_crops_that_cannot_be_are_named(fields, error, message):
    with pytest.raises(error, match=message):
        config(**fields)


def test_network():
    assert config().network() is get_preset("DemoMNIST")
    wide = config(preset="4SoftHebbCnnCIFAR", width_factor=2, neuron_factor=0.5).network()
    assert [layer.out for layer in wide.layers] == [48, 96, 192, None]
    assert config(preset=NET).network() == parse_network(NET)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "DemoMIST"}, "did you mean DemoMNIST"),
        ({"preset": NET, "neuron_factor": 0.5}, "are for presets, not layer strings"),
        ({"preset": NET, "width_factor": 1.0}, "are for presets, not layer strings"),
        ({"preset": "tender-c8-k3 BP"}, "unknown method 'tender'"),
        ({"neuron_factor": 0.0001}, "DemoMNIST cannot be scaled"),
        ({"neuron_factor": -1.0}, "neuron_factor must be a positive number"),
    ],
)
def test_networks_that_do_not_exist(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields).network()
