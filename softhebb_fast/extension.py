"""The library of the operators, and the C++ extension that implements them for the CPU."""

from __future__ import annotations

from pathlib import Path

import torch

LIBRARY = torch.library.Library("softhebb_fast", "FRAGMENT")
call = torch.ops.softhebb_fast

# The extension's own: the others have an implementation without it.
for _schema in (
    "profile(bool on) -> int[]",
    "bf16x3_missing() -> str",
    "dropout(Tensor x, float p, int seed) -> Tensor",
):
    LIBRARY.define(_schema)


def _load() -> str | None:
    """Load the extension; the reason why it is missing, or None."""
    path = Path(__file__).with_name("_C.so")
    if not path.exists():
        return (
            "the C++ extension was not built; install with a C++ compiler present and "
            "SOFTHEBB_FAST_BUILD=1 pip install --no-build-isolation"
        )
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"the C++ extension does not load, build it anew for this torch: {error}"
    return None


MISSING = _load()
