"""Checkpoints of the published code: every key finds its place, or is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from softhebb_fast import models

SHAPE = (3, 32, 32)
NAME = "4SoftHebbCnnCIFAR_wf1"


def net() -> models.SoftHebbNet:
    return models.build(NAME, SHAPE, 10)


def published(example: bool = False) -> dict[str, Tensor]:
    """The full code's state dict, or its example's, written out by hand."""
    state, channels = {}, (3, 96, 96, 96)
    for i, (inputs, kernel) in enumerate(zip(channels[:3], (5, 3, 3), strict=True)):
        norm, layer = f"blocks.{i}.operations.0", f"blocks.{i}.layer"
        if example:
            norm, layer = f"bn{i + 1}", f"conv{i + 1}"
        state[f"{norm}.running_mean"] = torch.randn(inputs)
        state[f"{norm}.running_var"] = torch.rand(inputs) + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(5000)
        state[f"{layer}.weight"] = torch.randn(96, inputs, kernel, kernel)
    last = "classifier" if example else "blocks.3.layer"
    return state | {f"{last}.weight": torch.randn(10, 1536), f"{last}.bias": torch.randn(10)}


@pytest.mark.parametrize("example", [False, True])
def test_all_tensors_arrive(example):
    state, model = published(example), net()
    assert models.load_published(model, state) is model
    given = list(state.values())
    for i, block in enumerate(model.blocks):
        own = (*block.norm.buffers(), block.layer.weight)
        assert all(torch.equal(*pair) for pair in zip(own, given[4 * i : 4 * i + 4], strict=True))
    assert torch.equal(model.head[-1].weight, given[-2])
    assert torch.equal(model.head[-1].bias, given[-1])
    assert len(list(model.state_dict())) == len(given)


def test_checkpoints_of_the_published_run(tmp_path):
    state = published()
    content = {"state_dict": state, "config": {"b0": {"lr": np.float64(0.08)}}, "epoch": 50}
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(content, path)
    parallel = {f"module.{key}": value for key, value in state.items()}
    for given in (path, str(path), content, parallel):
        model = models.load_published(net(), given)
        assert torch.equal(model.blocks[2].layer.weight, state["blocks.2.layer.weight"])


def test_a_perceptron():
    model = models.build("2SoftMlpMNIST", (1, 28, 28), 10)
    shapes = {"0.layer.weight": (2000, 784), "1.layer.weight": (10, 2000), "1.layer.bias": (10,)}
    state = {f"blocks.{key}": torch.randn(shape) for key, shape in shapes.items()}
    models.load_published(model, state)
    assert torch.equal(model.blocks[0].layer.weight, state["blocks.0.layer.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.layer.weight": None}, "it lacks blocks.1.layer.weight"),
        ({"blocks.1.layer.bias": torch.ones(96)}, "it has blocks.1.layer.bias besides"),
        ({"blocks.4.layer.weight": torch.ones(1)}, "it has blocks.4.layer.weight besides"),
        (
            {"blocks.3.layer.bias": torch.ones(100)},
            r"blocks.3.layer.bias must be \(10,\), got \(100",
        ),
        ({"blocks.3.layer.bias": 0.5}, r"blocks.3.layer.bias must be \(10,\), got no tensor"),
    ],
)
def test_keys_that_do_not_fit_are_named_and_nothing_is_loaded(change, message):
    state = {key: value for key, value in (published() | change).items() if value is not None}
    model = net()
    before = [tensor.clone() for tensor in model.state_dict().values()]
    with pytest.raises(ValueError, match=message):
        models.load_published(model, state)
    after = model.state_dict().values()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_other_kinds():
    with pytest.raises(TypeError, match=r"model must be a network of models.build"):
        models.load_published(torch.nn.Linear(2, 2), published())
    with pytest.raises(TypeError, match="state must be a state dict or a path"):
        models.load_published(net(), [1])


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path):
    state, model = published(), net()
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": state}, path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(state["blocks.0.layer.weight"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(whole)
    before = model.blocks[0].layer.weight.clone()
    with pytest.raises(ValueError, match=r"checkpoint\.pth\.tar cannot be read .*check sum"):
        models.load_published(model, path)
    assert torch.equal(model.blocks[0].layer.weight, before)
    path.write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"checkpoint\.pth\.tar cannot be read .*get it again"):
        models.load_published(model, path)
