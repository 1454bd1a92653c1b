"""``softhebb-fast backprop``: an ordinary network, trained by backpropagation."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from softhebb_fast.cli.errors import users_mistakes
from softhebb_fast.cli.options.data import reading
from softhebb_fast.cli.process import default_device
from softhebb_fast.cli.train import begin
from softhebb_fast.data.catalog import canonical_name
from softhebb_fast.training.backprop_config import BackpropConfig

# Networks that were published for images of another size or kind than MNIST's.
DATA_SETS = dict.fromkeys(("cifar_cnn", "resnet", "zero_resnet", "constnet", "leakynet"), "cifar10")


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    given = options.dataset or DATA_SETS.get(options.network, "mnist")
    options.dataset = canonical_name(given)
    options.device = options.device or default_device()
    options.options = dict(options.option)
    options.reading, options.normalise = reading(options), None  # the former holds it
    known = vars(options)
    values = {f.name: known[f.name] for f in fields(BackpropConfig) if f.name in known}
    with users_mistakes():
        config = BackpropConfig(**values)
    name = f"{config.network}-{Path(config.dataset).name}-{config.seed}"
    return begin(config, name, options)
