"""What defines a training run: everything that changes its numbers, and nothing else."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from softhebb_fast.backends import BACKENDS, choose
from softhebb_fast.data import ImageSet, RandomCropFlip, published_augmentation
from softhebb_fast.data.walk import Augmentation
from softhebb_fast.kinds import TIE_RULES
from softhebb_fast.models import Selection, Views, build
from softhebb_fast.precision import PRECISIONS
from softhebb_fast.presets import (
    RULE_NAMES,
    TAUGHT,
    Preset,
    get_preset,
    is_name,
    parse_network,
    protocol,
    with_rule,
)
from softhebb_fast.scalars import plain
from softhebb_fast.training.config_checks import (
    check_plain,
    check_reading,
    check_seed,
    checked_keys,
    checked_number,
    checked_steps,
)
from softhebb_fast.training.ridge import RidgeSettings
from softhebb_fast.training.softmax import SoftmaxSettings
from softhebb_fast.training.solved import SolverSettings

SOLVERS = {"ridge": RidgeSettings, "softmax": SoftmaxSettings}
CLASSIFIERS = ("published", *SOLVERS)
CHUNK = 1000  # images whose products are taken together
MODES = ("successive", "consecutive", "simultaneous")
CACHE_DTYPES = ("float32", "bfloat16", "float16")
LEAST = {
    "seed": 0,
    "unsup_epochs": 0,
    "probe_epochs": 1,
    "unsup_batch": 1,
    "probe_batch": 1,
    "test_batch": 1,
    "limit": 1,
    "cache_gib": 0.0,
    "shifts": 0,
}


class Config:
    """What configurations have in common: plain values that survive JSON."""

    kind: ClassVar[str]
    dataset: str
    error: str = "loss"  # what tests measure beside the accuracy, see ``classifier.ERRORS``
    seed: int
    limit: int | None
    reading: dict[str, Any] | None

    def resolved(self) -> Self:
        """The same run with nothing left open."""
        return self

    def build(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """The network as it starts, from torch's global generator, for ``image_shape`` (C, H, W)
        and so many ``classes``."""
        raise NotImplementedError

    def backend_used(self) -> str:
        """What computes the run here."""
        raise NotImplementedError

    def prepared(self, images: ImageSet) -> ImageSet:
        """A data set ``images`` as the network takes it."""
        return images

    def testing(self, net: nn.Module) -> AbstractContextManager[Any]:
        """The state of ``net`` in which it is tested, but for evaluation mode."""
        return nullcontext()

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"the configuration has unknown fields {sorted(unknown)}")
        return cls(**values)


@dataclass(frozen=True)
class RunConfig(Config):
    """A training run, as plain values that survive JSON.

    Attributes:
        preset: a preset's name, or layer strings as ``presets.parse_network`` takes them.
        dataset: a name that ``data.load`` takes.
        init, tie_rule: as ``models.build`` takes them.
        mode: ``"successive"`` trains one layer after the other, then the classifier;
            ``"consecutive"`` all Hebbian layers in one pass, then what learns by backpropagation
            end to end; ``"simultaneous"`` everything in the same passes.
        seed: of torch's generator and of the order of the images.
        backend, device: as ``models.build`` takes it; where it trains.
        width_factor, neuron_factor: as ``presets.get_preset`` takes them.
        unsup_epochs, unsup_batch, probe_epochs, probe_batch, test_batch: of the Hebbian layers, the
            classifier and tests; None takes the published protocol of the data set.
        augment: train the classifier on augmented images; None takes the published protocol.
        crops: augment by these crops in the place of the data set's published augmentation:
            settings of ``data.RandomCropFlip``, ``{"padding": 1, "flip": 0}`` for digits.
        limit: use only so many training (and test) images; for trials.
        precision: how the Hebbian layers take float32 products, see ``precision.use``.
        autocast: train by backpropagation in bfloat16, by ``torch.autocast``; tests are in float32.
        symmetry_steps: steps of the run after which ``init.symmetry`` is recorded.
        reading: how the images are read: options of ``data.load`` for that, such as
            ``{"image_size": 32, "holdout": 0.2}``; None for none.
        cache_dtype: dtype in which frozen features are kept.
        cache_gib: features that need more memory are recomputed for every batch.
        classifier: ``"published"``, what the last layer of the preset says; or ``"ridge"`` or
            ``"softmax"``, which are solved. Then ``probe_epochs`` are passes over augmented images,
            of others 1, and ``probe_batch`` images are taken in at a time.
        ridge, softmax: settings of that classifier, see ``ridge.RidgeSettings`` and
            ``softmax.SoftmaxSettings``; None for its defaults.
        features: what the classifier sees, see ``models.Selection``: a dict such as
            ``{"layers": [1, 2], "grid": 4}``; None for the whole output of the last layer.
        flips: let the classifier learn from every image and its mirror image, and take the mean of
            both images' scores in tests.
        shifts: take the mean in tests of the scores of an image and of it moved by so many pixels
            in eight directions, see ``models.Views``; 0 for the image alone.
        rule: the rule of all Hebbian layers but the last, see ``presets.with_rule``; None for the
            preset's own.

    Raises ValueError or TypeError for a value out of its range or of another kind, naming it.
    """

    kind: ClassVar[str] = "softhebb"

    preset: str
    dataset: str
    init: Any = None
    mode: str = "successive"
    seed: int = 0
    backend: str = "auto"
    device: str = "cpu"
    width_factor: float | None = None
    neuron_factor: float = 1.0
    unsup_epochs: int | None = None
    unsup_batch: int | None = None
    probe_epochs: int | None = None
    probe_batch: int | None = None
    test_batch: int | None = None
    augment: bool | None = None
    crops: dict[str, Any] | None = None
    limit: int | None = None
    cache_dtype: str = "float32"
    cache_gib: float = 8.0
    tie_rule: str = "first"
    precision: str = "ieee"
    autocast: bool = False
    symmetry_steps: tuple[int, ...] = ()
    reading: dict[str, Any] | None = None
    classifier: str = "published"
    ridge: dict[str, Any] | None = None
    softmax: dict[str, Any] | None = None
    features: dict[str, Any] | None = None
    flips: bool = False
    shifts: int = 0
    rule: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", MODES),
            ("classifier", CLASSIFIERS),
            ("backend", BACKENDS),
            ("cache_dtype", CACHE_DTYPES),
            ("tie_rule", TIE_RULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        if self.precision != "ieee" and self.backend == "reference":
            raise ValueError(
                f"precision must be ieee for backend='reference'; got {self.precision!r}"
            )
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None or name in ("seed", "cache_gib", "shifts"):
                object.__setattr__(self, name, checked_number(name, value, least))
        if self.rule is not None and self.rule not in RULE_NAMES:
            raise ValueError(f"rule must be one of {', '.join(RULE_NAMES)}; got {self.rule!r}")
        for name in ("width_factor", "neuron_factor"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        check_seed(self.seed)
        for name in ("preset", "dataset"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string; got {getattr(self, name)!r}")
        for name in ("autocast", "flips"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool; got {getattr(self, name)!r}")
        if self.crops is not None:
            crops = RandomCropFlip(**checked_keys("crops", self.crops, RandomCropFlip))
            object.__setattr__(self, "crops", asdict(crops))
            if self.augment is False:
                raise ValueError(f"augment must not be False with crops; got crops={self.crops}")
            object.__setattr__(self, "augment", True)
        self._check_classifier()
        check_plain("init", self.init)
        check_reading(self.reading)
        object.__setattr__(self, "symmetry_steps", checked_steps(self.symmetry_steps))

    def _check_classifier(self) -> None:
        for name, kind in {**SOLVERS, "features": Selection}.items():
            if (value := getattr(self, name)) is not None:
                checked = kind(**checked_keys(name, value, kind)).to_dict()
                object.__setattr__(self, name, checked)
        if self.flips and (self.features or {}).get("mirrored"):
            raise ValueError("flips must be False for features mirrored=true: both sides are equal")
        for name in SOLVERS:
            if name != self.classifier and getattr(self, name) is not None:
                raise ValueError(f"{name} must be None for classifier={self.classifier!r}")
        if self.classifier == "published":
            return
        solved = f"classifier={self.classifier!r}"
        if self.autocast:
            raise ValueError(f"autocast must be False for {solved}, which is solved")
        if (self.probe_epochs or 1) > 1 and not self.augment:
            raise ValueError(
                f"probe_epochs must be 1 for {solved} on images that are not augmented: "
                f"other passes would be the same; got {self.probe_epochs}"
            )

    @property
    def solver(self) -> SolverSettings | None:
        """How the classifier is solved; None if it is trained."""
        if self.classifier not in SOLVERS:
            return None
        return SOLVERS[self.classifier](**(getattr(self, self.classifier) or {}))

    @property
    def error(self) -> str:
        return "loss" if self.solver is None else self.solver.error

    def resolved(self) -> RunConfig:
        """The same run with the published protocol written into the fields left None.

        A classifier that is solved takes each image once and as it is, and gets all its settings.
        """
        published = protocol(self.dataset)
        names = ("unsup_epochs", "unsup_batch", "probe_epochs", "probe_batch", "test_batch")
        chosen = {name: getattr(published, name) for name in (*names, "augment")}
        if self.solver is not None:
            chosen |= {"probe_epochs": 1, "probe_batch": CHUNK, "augment": False}
            chosen[self.classifier] = self.solver.to_dict()
        return replace(self, **{k: v for k, v in chosen.items() if getattr(self, k) is None})

    def augmentation(self) -> Augmentation | None:
        """What the images of the classifier pass first."""
        if self.crops is not None:
            return RandomCropFlip(**self.crops)
        return published_augmentation(self.dataset) if self.augment else None

    def network(self) -> Preset:
        """The preset, its width and neuron factors and its rule applied.

        Raises ValueError for an unknown name, layer strings that do not parse, factors or a rule
        that do not fit, or layers that learn labels in a mode that hands them none.
        """
        if is_name(self.preset):
            net = get_preset(
                self.preset, width_factor=self.width_factor, neuron_factor=self.neuron_factor
            )
        elif self.width_factor is not None or self.neuron_factor != 1:
            raise ValueError("width_factor and neuron_factor are for presets, not layer strings")
        else:
            net = parse_network(self.preset)
        net = net if self.rule is None else with_rule(net, self.rule)
        taught = [layer.rule for layer in net.layers[:-1] if layer.rule in TAUGHT]
        if taught and self.mode == "simultaneous":
            raise ValueError(
                f"mode must be successive or consecutive for layers with the rule {taught[0]!r}: "
                "a simultaneous pass hands them no labels"
            )
        return net

    def build(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        options = {"init": self.init, "tie_rule": self.tie_rule, "backend": self.backend}
        if self.features is not None:
            options["features"] = Selection(**self.features)
        views = Views(mirror=self.flips, shifts=self.shifts)
        return build(self.network(), image_shape, classes, views=views, **options)

    def backend_used(self) -> str:
        if self.backend != "auto":
            return self.backend
        return choose(torch.device(self.device).type, tie_rule=self.tie_rule)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        values = dict(values)
        if isinstance(values.get("init"), dict) and "name" not in values["init"]:
            values["init"] = {int(layer): init for layer, init in values["init"].items()}
        return super().from_dict(values)
