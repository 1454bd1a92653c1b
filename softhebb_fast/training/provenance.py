"""Which code, with what, makes a result: kept with every run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import torch

from softhebb_fast import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
CODE = ("softhebb_fast", "csrc")
VARIABLE = "SOFTHEBB_FAST_COMMIT"


def provenance() -> dict[str, Any]:
    """Version, commit (None outside a checkout), torch's version and its number of threads."""
    return {
        "version": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def commit(checkout: Path = CHECKOUT) -> str | None:
    """The short hash of ``checkout``, "-dirty" appended if code differs from it; None outside one.

    ``SOFTHEBB_FAST_COMMIT``, if set, names the commit instead: of a copy without its history.
    """
    if named := os.environ.get(VARIABLE):
        return named
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout)]
    try:
        text = subprocess.check_output(
            [*git, "rev-parse", "--short", "HEAD"], text=True, stderr=subprocess.DEVNULL, timeout=30
        )
        changed = subprocess.call([*git, "diff-index", "--quiet", "HEAD", "--", *CODE], timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip() + "-dirty" * bool(changed)
