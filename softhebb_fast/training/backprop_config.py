"""What defines a run of an ordinary network, trained by backpropagation alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from softhebb_fast.data import ImageSet, RandomCropFlip
from softhebb_fast.data.reading import checked_moments
from softhebb_fast.init import apply, parse_init, weight_noise_
from softhebb_fast.models import NETWORKS, network
from softhebb_fast.naming import did_you_mean
from softhebb_fast.training.config import Config
from softhebb_fast.training.config_checks import (
    check_plain,
    check_reading,
    check_seed,
    checked_number,
    checked_steps,
)

CHOICES = {
    "optimizer": ("adam", "sgd"),
    "loss": ("mean", "sum"),
    "statistics": ("running", "batch"),
    "augment": (None, "reflect", "constant"),
}
LEAST = {"epochs": 1, "batch": 1, "test_batch": 1, "images": 1, "limit": 1, "warm_up": 0}
LEAST |= {"test_every": 1, "records": 1}
LEAST |= {"lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "factor": 0.0}
LEAST |= {"weight_noise": 0.0, "gradient_noise": 0.0}
OPTIONAL = ("images", "limit")
FLAGS = ("reshuffle", "deterministic", "autocast")


@dataclass(frozen=True)
class BackpropConfig(Config):
    """A run of an ordinary network, as plain values that survive JSON.

    Attributes:
        network, options: as ``models.network`` takes them.
        init: as ``init.apply`` takes it, or a dict with its further arguments ("zero_branches",
            "zero_head", "exclude") as well; None leaves the network as it was built.
        dataset: a name that ``data.load`` takes.
        images: train on so many images, drawn by the seed; None takes all.
        reshuffle: whether every epoch has an order of its own.
        normalise: means and deviations of the channels, of pixels in [0, 1].
        augment: pad by 4 pixels in this mode, crop, flip.
        optimizer, lr, momentum, weight_decay, loss: "adam" or "sgd" on the "mean" or "sum" of the
            batch's cross-entropy.
        warm_up: epochs in which the rate grows linearly, step by step.
        milestones, factor: epochs after which the rate is multiplied by ``factor``.
        statistics: of batch norms in tests: the "running" ones, or those of the test "batch".
        weight_noise: the deviation of noise added to the start, see ``init.weight_noise_``.
        gradient_noise: that of noise added to every gradient, see ``optim.gradient_noise``.
        deterministic: whether cuDNN must choose deterministic algorithms.
        autocast: learn in bfloat16, by ``torch.autocast``; tests are in float32.
        seed, device: of torch's generator, and where it trains.
        epochs, batch, test_batch: passes over the images, and images a step and a test.
        limit: use only so many training and test images; for trials.
        test_every: epochs between two tests; the first and the last are tested as well.
        records: how often an epoch's training figures are recorded, each time those since the last.
        symmetry_steps: steps after which ``init.symmetry`` is recorded.
        reading: how the images are read: options of ``data.load`` for that, such as
            ``{"image_size": 32, "holdout": 0.2}``; None for none.

    Raises ValueError or TypeError for a value out of its range or of another kind, naming it.
    """

    kind: ClassVar[str] = "backprop"

    network: str
    dataset: str
    options: dict[str, Any] = field(default_factory=dict)
    init: Any = None
    seed: int = 0
    device: str = "cpu"
    images: int | None = None
    reshuffle: bool = True
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    augment: str | None = None
    epochs: int = 10
    batch: int = 128
    test_batch: int = 1000
    test_every: int = 1
    records: int = 1
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    loss: str = "mean"
    warm_up: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    statistics: str = "running"
    weight_noise: float = 0.0
    gradient_noise: float = 0.0
    deterministic: bool = True
    autocast: bool = False
    limit: int | None = None
    symmetry_steps: tuple[int, ...] = ()
    reading: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.network, str) or self.network not in NETWORKS:
            hint = did_you_mean(self.network, NETWORKS)
            raise ValueError(
                f"network must be one of {', '.join(NETWORKS)}; got {self.network!r}{hint}"
            )
        for name in ("dataset", "device"):
            if not isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} must be a string; got {value!r}")
        if not isinstance(self.options, dict):
            raise TypeError(f"options must be a dict; got {self.options!r}")
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}; got {value!r}")
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None or name not in OPTIONAL:
                object.__setattr__(self, name, checked_number(name, value, least))
        for name in FLAGS:
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool; got {value!r}")
        check_seed(self.seed)
        check_plain("options", self.options)
        check_plain("init", self.init)
        check_reading(self.reading)
        object.__setattr__(self, "symmetry_steps", checked_steps(self.symmetry_steps))
        object.__setattr__(self, "milestones", checked_steps(self.milestones, "milestones"))
        if self.normalise is not None:
            object.__setattr__(self, "normalise", checked_moments(self.normalise))

    def build(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        net = network(self.network, image_shape, classes, **self.options)
        if self.init is not None:
            init = parse_init(self.init) if isinstance(self.init, str) else self.init
            options = dict(init) if isinstance(init, dict) else {"name": init}
            names = ("zero_branches", "zero_head", "branches", "exclude")
            arguments = {name: options.pop(name) for name in names if name in options}
            apply(net, options, **arguments)
        return weight_noise_(net, self.weight_noise) if self.weight_noise else net

    def prepared(self, images: ImageSet) -> ImageSet:
        """``images``, to be normalised as ``normalise`` says."""
        if self.normalise is None:
            return images
        return replace(images, mean=self.normalise[0], std=self.normalise[1])

    @contextmanager
    def testing(self, net: nn.Module) -> Iterator[None]:
        """Hide the running statistics of ``net`` where those of the batch are asked for."""
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        kept = [(norm, norm.running_mean, norm.running_var) for norm in norms]
        if self.statistics == "batch":
            for norm in norms:
                norm.running_mean = norm.running_var = None
        try:
            yield
        finally:
            for norm, mean, var in kept:
                norm.running_mean, norm.running_var = mean, var

    def backend_used(self) -> str:
        return f"torch {self.device}"

    def augmentation(self) -> RandomCropFlip | None:
        return None if self.augment is None else RandomCropFlip(mode=self.augment)
