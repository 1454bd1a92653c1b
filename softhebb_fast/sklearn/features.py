"""Hebbian features as a transformer of scikit-learn."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from softhebb_fast.models import build
from softhebb_fast.models.softhebb import checked_shape
from softhebb_fast.presets import Layer, Pool, Preset, as_preset
from softhebb_fast.scalars import whole
from softhebb_fast.training.features import flat_features, images_at_once
from softhebb_fast.training.layers import LayerFigures, train_layers
from softhebb_fast.training.run_folder import usable_device

DTYPES = (np.float64, np.float32)
CHUNK = 500  # rows that pass the network together
SEEDS = 2**31 - 1


class HebbianFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What a network that learns without labels makes of its input.

    ``X`` is ``[n, features]``, or images ``[n, C, H, W]``, as they are: bring features to one scale
    and pixels to 0 .. 1 first. Learning takes them in float32. Features come in the dtype of ``X``,
    float32 or float64, ``[n, outputs]``. Sparse matrices are refused.

    Args:
        n_components: neurons of the network that is taken for ``network=None``: one linear layer
            for vectors; for images one block of 5x5 filters, pooled to half the rows and columns.
        network: otherwise the name of a preset or layer strings, as ``models.build`` takes them,
            whose classifier is left out; or an ``nn.Sequential``, a copy of which is trained from
            its weights on, see ``training.train_layers``.
        image_shape: (C, H, W) of images that come as rows ``[n, C * H * W]``, as a pipeline hands
            them on.
        epochs: passes over ``X`` for each layer.
        batch_size: rows of a step.
        backend: of the layers, as ``models.build`` takes it.
        device: where it is computed.
        random_state: of the weights at the start and the order of the rows.

    Attributes:
        network_: the network, an ``nn.Sequential``.
        figures_: what was recorded, as ``plots.plot_run`` takes it.
        image_shape_: (C, H, W) of images, None for vectors.
        n_features_in_, feature_names_in_: as in scikit-learn; of images C * H * W.

    Raises ValueError or TypeError in ``fit`` and ``transform`` for arguments or an ``X`` that do
    not do, naming them.
    """

    network_: nn.Sequential
    figures_: LayerFigures
    image_shape_: tuple[int, int, int] | None

    def __init__(
        self,
        n_components: int = 100,
        *,
        network: str | nn.Sequential | None = None,
        image_shape: tuple[int, int, int] | None = None,
        epochs: int = 5,
        batch_size: int = 10,
        backend: str = "auto",
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.network = network
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.backend = backend
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on ``X``; ``y`` is not looked at."""
        usable_device(self.device)
        rows, shape = images_as_rows(X, self.image_shape)
        rows = validate_data(self, rows, dtype=DTYPES)
        check_size("X", rows, shape)
        x = self._given(rows, shape).float()
        if not x.isfinite().all():
            raise ValueError("X must be finite in float32, in which layers learn; scale it")
        seed = int(check_random_state(self.random_state).randint(SEEDS))
        with torch.random.fork_rng(_accelerators(self.device)):
            torch.manual_seed(seed)
            net = self._network(tuple(x.shape[1:]), shape is None).to(self.device)
        figures = train_layers(net, x, epochs=self.epochs, batch_size=self.batch_size, seed=seed)
        self.network_, self.figures_, self.image_shape_ = net, figures, shape
        self._n_features_out = self._features(x[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The features ``[n, outputs]`` of ``X``."""
        check_is_fitted(self)
        rows, shape = images_as_rows(X, self.image_shape_)
        rows = validate_data(self, rows, dtype=DTYPES, reset=False)
        if shape != self.image_shape_:
            raise ValueError(f"X must be as it was in fit, {self.image_shape_}; got {shape}")
        return self._features(self._given(rows, shape)).cpu().numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _given(self, rows: np.ndarray, shape: tuple[int, int, int] | None) -> Tensor:
        x = torch.tensor(rows, device=self.device)
        return x.view(len(x), *(shape or (rows.shape[1], 1, 1)))

    def _network(self, shape: tuple[int, int, int], vectors: bool) -> nn.Sequential:
        """The network as it starts, for inputs of that shape; vectors are maps of 1x1."""
        if isinstance(self.network, nn.Sequential):
            own = copy.deepcopy(self.network)
            return nn.Sequential(nn.Flatten(), *own) if vectors else own
        preset = self._preset(vectors)
        *body, _ = preset.layers
        decaying = [layer for layer in body if layer.schedule not in ("norm", "constant")]
        if not body or not all(layer.hebbian for layer in body) or decaying:
            raise ValueError(
                "network must have Hebbian layers alone below its classifier, whose rates do not "
                f"decay (Trainer trains all others); got {preset.name!r}"
            )
        return nn.Sequential(*build(preset, shape, 2, backend=self.backend).blocks)

    def _preset(self, vectors: bool) -> Preset:
        if self.network is not None:
            return as_preset(self.network)
        count = whole("n_components", self.n_components, 1)
        if vectors:
            layer = Layer("linear", "soft_anti", count, **VECTORS)
        else:
            layer = Layer("conv", "soft_anti", count, **IMAGES)
        return Preset("HebbianFeatures", (layer, Layer("linear", "bp")))

    def _features(self, x: Tensor) -> Tensor:
        """In the dtype of ``x``: float64 where that is given, though learning was float32."""
        net = (
            copy.deepcopy(self.network_).to(x.dtype) if x.dtype == torch.float64 else self.network_
        )
        chunk = images_at_once(net, x[:1], CHUNK)
        return flat_features(list(net), x, chunk)


VECTORS: dict[str, Any] = {
    "t_invert": 1.0,
    "lr": 0.1,
    "lr_power": 0.5,
    "radius": 5,
    "activation": ("triangle", 1.0),
}
IMAGES: dict[str, Any] = {
    "kernel": 5,
    "padding": 2,
    "t_invert": 1.0,
    "lr": 0.08,
    "lr_power": 0.5,
    "activation": ("triangle", 1.0),
    "pool": Pool("max", 4, 2, 1),
}


def images_as_rows(
    X: Any, image_shape: tuple[int, int, int] | None
) -> tuple[Any, tuple[int, int, int] | None]:
    """Images ``[n, C, H, W]`` as rows, with their shape; all else as it came."""
    shape = None if image_shape is None else checked_shape(image_shape)
    if len(getattr(X, "shape", ())) != 4:
        return X, shape
    X = np.asarray(X)
    if shape is not None and X.shape[1:] != shape:
        raise ValueError(f"X must be images {shape}, as image_shape says; got {X.shape[1:]}")
    return X.reshape(len(X), -1), X.shape[1:]


def check_size(name: str, rows: np.ndarray, shape: tuple[int, int, int] | None) -> None:
    """Raise ValueError unless ``rows`` are images of that shape, if there is one."""
    if shape is not None and rows.shape[1] != int(np.prod(shape)):
        raise ValueError(
            f"{name} must have {int(np.prod(shape))} features for images {shape}; got "
            f"{rows.shape[1]}"
        )


def _accelerators(device: str) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type != "cpu" else []
