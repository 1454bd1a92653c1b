"""One file of safetensors: a network's state, what is known of it as JSON, and their digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from softhebb_fast.files import write_atomically

FILE = "model.safetensors"
ABOUT, DIGEST = "softhebb_fast", "digest"


def write(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write ``tensors`` and ``about``, which JSON must be able to hold, to ``path``, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    metadata = {"format": "pt", ABOUT: text, DIGEST: digest(tensors, text)}
    content = safetensors.torch.save(tensors, metadata)
    write_atomically(path, lambda file: file.write(content))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and what is known of them, as `write` took both.

    Raises FileNotFoundError without such a file, ValueError for one that is damaged or that this
    package did not write.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights: {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no file of safetensors: {error}") from error
    if missing := [name for name in (ABOUT, DIGEST) if name not in metadata]:
        raise ValueError(
            f"{path} was not written by softhebb_fast: its metadata lack {', '.join(missing)}"
        )
    if digest(tensors, metadata[ABOUT]) != metadata[DIGEST]:
        raise ValueError(f"{path} is damaged: its content does not have its digest")
    return tensors, json.loads(metadata[ABOUT])


def digest(tensors: dict[str, Tensor], text: str) -> str:
    """BLAKE2b of ``text`` and of every tensor: its name, dtype, shape and bytes."""
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
