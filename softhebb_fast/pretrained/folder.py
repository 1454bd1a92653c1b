"""Folders of trained networks: written from runs, and read by name, from here or from the Hub."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.files import writable_folder, write_text
from softhebb_fast.naming import did_you_mean
from softhebb_fast.pretrained import weights
from softhebb_fast.pretrained.card import card
from softhebb_fast.training import checkpoint
from softhebb_fast.training.run_folder import (
    CONFIGS,
    Run,
    is_finished,
    read_config,
    read_data,
    read_provenance,
    rebuilt,
    usable_device,
)

BUNDLED = Path(__file__).with_name("bundled")
CARD = "README.md"
FORMAT = 1


def bundled() -> list[str]:
    """The names of the networks that are part of the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{weights.FILE}"))


def save_pretrained(run: str | Path, folder: str | Path) -> Path:
    """Write the network of the finished run in the folder ``run`` to ``folder``; returns that.

    It gets ``model.safetensors``, with the run's configuration, figures and provenance in its
    metadata, and ``README.md``, a card of them. The configuration is written as it is: for a data
    set of one's own with the path it had.

    Raises FileNotFoundError if there is no run; ValueError if it is not finished or damaged, or
    ``folder`` cannot be written.
    """
    run = Path(run)
    config, _ = read_config(run)
    if not is_finished(run):
        raise ValueError(f"run must be finished; {str(run)!r} is not: resume it first")
    saved = checkpoint.load(run, config)
    about = {
        "format": FORMAT,
        "kind": config.kind,
        "run": config.to_dict(),
        "data": read_data(run),
        "made_by": read_provenance(run),
        **{name: saved[name] for name in ("image_shape", "num_classes", "rows")},
        **{name: saved.get(name, {}) for name in ("like", "neurons")},
    }
    folder = writable_folder(folder, "folder")
    weights.write(folder / weights.FILE, saved["model"], about)
    write_text(folder / CARD, card(folder.name, about, saved["model"]))
    return folder


def from_pretrained(name: str | Path, *, device: str = "cpu", revision: str | None = None) -> Run:
    """The run of a trained network, with the network in evaluation mode as ``net``.

    Args:
        name: one of `bundled`; a folder that `save_pretrained` wrote; or ``USER/REPOSITORY`` on the
            Hugging Face Hub, for which ``huggingface_hub`` must be installed.
        device: where the network is put.
        revision: of the repository on the Hub.

    Torch's random state stays as it is.

    Raises:
        FileNotFoundError: a folder without weights.
        ValueError: a name that is nothing of these; weights that are damaged, of another format or
            of another network; a device that is not here.
        ImportError: a repository of the Hub without ``huggingface_hub``.
    """
    path = _folder(name, revision) / weights.FILE
    state, about = weights.read(path)
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}, which this reads")
    device = usable_device(device)
    try:
        config = CONFIGS[about["kind"]].from_dict(about["run"])
        shape = tuple(about["image_shape"])
        with torch.random.fork_rng([]):
            net = rebuilt(config, shape, about["num_classes"], state)
        neurons = {int(layer): found for layer, found in about["neurons"].items()}
        rows, like = about["rows"], about["like"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} holds no network that can be built here: {error}") from error
    config = replace(config, device=str(device))
    return Run(config, None, net.to(device).eval(), rows, [], shape, neurons, like)


def _folder(name: str | Path, revision: str | None) -> Path:
    text = str(name)
    if text in bundled():
        return BUNDLED / text
    if Path(name).is_dir():
        return Path(name)
    if isinstance(name, str) and text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _download(text, revision)
    hint = did_you_mean(text, bundled()) or f"; in the package are {', '.join(bundled())}"
    raise ValueError(
        "name must be a network of the package, a folder or a repository USER/NAME of the Hugging "
        f"Face Hub; got {text!r}{hint}"
    )


def _download(repository: str, revision: str | None) -> Path:
    if find_spec("huggingface_hub") is None:
        raise ImportError(
            f"{repository!r} is no folder here, and huggingface_hub, which would look for it on "
            "the Hub, is not installed: pip install 'softhebb_fast[hub]'"
        )
    import huggingface_hub

    options: dict[str, Any] = {"revision": revision, "allow_patterns": [weights.FILE, CARD]}
    return Path(huggingface_hub.snapshot_download(repository, **options))
