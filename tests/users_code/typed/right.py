"""A program of a user who checks types: nothing in it is an error, and every type is the one said.

`make types` checks it in pyright's strict mode; `tests/users_code/test_typed.py` runs it.
"""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from torch import Tensor, nn

import softhebb_fast
from softhebb_fast import (
    HebbianConv2d,
    HebbianLinear,
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    convert,
    data,
    functional,
    init,
    models,
    optim,
)
from softhebb_fast.nn import (
    Block,
    Conversion,
    PatchWhitening,
    initialise_from,
    side_by_side,
    take_apart_,
)
from softhebb_fast.pretrained import bundled, from_pretrained
from softhebb_fast.sklearn import HebbianClassifier, HebbianFeatures
from softhebb_fast.training import (
    Run,
    RunConfig,
    Trainer,
    begin,
    learn_together,
    load_run,
    train_layers,
)


def halved(step: int) -> float:
    return 0.1 if step < 10 else 0.05


def squared(u: Tensor) -> Tensor:
    return u.square()


def layers() -> None:
    conv = SoftHebbConv2d(3, 8, 5, padding="same", lr=0.1, update="in_place", schedule=None)
    assert_type(conv.weight, nn.Parameter)
    assert_type(conv.bias, nn.Parameter | None)
    assert_type(conv.kernel_size, tuple[int, int])
    assert_type(conv.padding, tuple[int, int] | str)
    assert_type(conv.t_invert, float)
    assert_type(conv.lr, float | None)
    assert_type(conv.steps, int)
    assert_type(conv.convergence(), tuple[float, int])
    x = torch.rand(2, 3, 8, 8)
    assert_type(conv.forward(x), Tensor)
    assert_type(conv.hebbian_update(x).delta_w, Tensor)
    conv.lr = 0.05
    assert_type(SoftHebbConv1d(3, 8, 5).forward(x[:, :, 0]), Tensor)

    linear = SoftHebbLinear(12, 4, update="in_place", schedule=halved, init={"name": "normal"})
    assert_type(linear.out_features, int)
    assert_type(linear.learning_rates(), Tensor)

    rule = HebbianConv2d(3, 8, 3, rule="bcm", neuron_rates=torch.ones(8))
    assert_type(rule.threshold, Tensor | None)
    assert_type(rule.forward(x, modulator=torch.ones(2)), Tensor)
    own = HebbianLinear(12, 4, rule=squared)
    assert_type(own.hebbian_update(torch.rand(2, 12)).statistic, Tensor | None)


def blocks() -> nn.Sequential:
    pool = nn.MaxPool2d(2)
    block = SoftHebbBlock(3, 8, 3, lr=0.1, update="in_place", activation=Triangle(), pool=pool)
    assert_type(block.layer, SoftHebbConv2d)
    assert_type(block.layer.norms(), Tensor)
    assert_type(block.activation, nn.Module | None)
    joint = side_by_side([block, block])
    assert_type(joint, Block)
    take_apart_(joint, [block, block])
    return nn.Sequential(block, nn.Flatten())


def calls() -> None:
    x, weight = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3)
    out = functional.softhebb_conv2d(x, weight, stride=2, padding=(1, 1), wta="soft")
    assert_type(out.u, Tensor)
    assert_type(out.delta_b, Tensor | None)
    assert_type(functional.softhebb_conv2d_step_(x, weight, lr=0.1).u, Tensor)
    epilogue = functional.Epilogue(power=0.7, pool="max", kernel=(2, 2), stride=(2, 2))
    assert_type(functional.softhebb_block(x, weight, epilogue).out, Tensor)
    rows = torch.rand(5, 12)
    assert_type(functional.hebbian_linear(rows, torch.rand(4, 12), rule="oja").delta_w, Tensor)
    assert_type(functional.norm_dependent_rate(weight, 0.1), Tensor)


def starts() -> None:
    weight = torch.empty(4, 3, 3, 3)
    init.initialise(weight, init="hadamard_taps")
    started = init.apply(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "zerO")
    assert_type(started, init.Applied)
    chosen: list[str] = ["normal", "positive"]
    assert_type(init.per_layer(chosen, 2), list[init.Init])
    layer = SoftHebbConv2d(3, 4, 3, init="patches")
    initialise_from(layer, torch.rand(50, 3, 8, 8))
    whitening = PatchWhitening(3, 3).fit(torch.rand(20, 3, 8, 8))
    assert_type(whitening.weight, Tensor)


def own_loop() -> None:
    layer = SoftHebbConv2d(3, 4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, maximize=True)
    handle = optim.norm_dependent(optimizer, lr_power=0.5)
    layer(torch.rand(2, 3, 8, 8))
    optimizer.step()
    handle.remove()


def conversion() -> None:
    result = convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)), wta="soft")
    assert_type(result, Conversion)
    assert_type(result.model, nn.Module)
    assert_type(result.left, dict[str, str])


def networks() -> None:
    net = models.build("DemoMNIST", (1, 28, 28), 10, init=["positive"])
    assert_type(net, models.SoftHebbNet)
    assert_type(net.forward(torch.rand(2, 1, 28, 28)), Tensor)
    assert_type(softhebb_fast.models.network("resnet", (3, 8, 8), 2, width=4), nn.Module)
    if "DemoMNIST" in bundled():
        run = from_pretrained("DemoMNIST")
        assert_type(run, Run)
        assert_type(run.net, nn.Module)


def training(folder: Path) -> None:
    config = RunConfig("DemoMNIST", "mnist", limit=60, probe_epochs=1)
    trainer = Trainer(config, folder)
    assert_type(trainer.config, RunConfig)
    assert_type(trainer.net, models.SoftHebbNet)
    assert_type(trainer.run(), dict[str, Any])
    assert_type(load_run(folder).evaluate(), tuple[float, float])
    assert_type(begin(config, folder / "again").stage_number, int)
    learn_together([Trainer(config, folder / "one"), Trainer(config, folder / "two")])


def stack(images: data.ImageSet) -> None:
    figures = train_layers(blocks(), images)
    assert_type(figures.neurons, dict[int, dict[str, Any]])


def estimators() -> None:
    x, y = np.random.default_rng(0).random((40, 6)), np.arange(40) % 2
    features = HebbianFeatures(5, epochs=1, random_state=0).fit(x)
    assert_type(features, HebbianFeatures)
    assert_type(features.network_, nn.Sequential)
    features.transform(x).mean()
    classifier = HebbianClassifier(5, epochs=1, penalty=0.1).fit(x, y)
    assert_type(classifier.features_, HebbianFeatures)
    assert_type(softhebb_fast.training.RidgeClassifier(2).bias, Tensor | None)


def main(folder: Path) -> None:
    layers()
    calls()
    starts()
    own_loop()
    conversion()
    networks()
    training(folder)
    stack(data.from_arrays(np.zeros((20, 3, 8, 8), "uint8"), np.arange(20) % 2))
    estimators()
