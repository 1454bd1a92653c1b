"""The library of the operators, and the C++ extension that implements them for the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

LIBRARY = torch.library.Library("softhebb_fast", "FRAGMENT")
call: Any = torch.ops.softhebb_fast

# The extension's own: the others have an implementation without it.
for _schema in (
    "profile(bool on) -> int[]",
    "bf16x3_missing() -> str",
    "dropout(Tensor x, float p, int seed) -> Tensor",
):
    LIBRARY.define(_schema)

FOLDER = Path(__file__).parent
PREFIX = "_C_torch"  # the minor version of torch follows, which a file was compiled against
BUILD = (
    "with a C++ compiler present, run SOFTHEBB_FAST_BUILD=1 pip install --no-deps "
    "--force-reinstall --no-cache-dir --no-binary softhebb_fast softhebb_fast; in a checkout "
    "end it with -e . instead of softhebb_fast"
)


def _load() -> str | None:
    """Load the extension for this torch; the reason why it is missing and the cure, or None."""
    minor = ".".join(torch.__version__.split(".")[:2])
    path = FOLDER / f"{PREFIX}{minor.replace('.', '_')}.so"
    if not path.exists():
        others = sorted(other.stem.removeprefix(PREFIX) for other in FOLDER.glob(f"{PREFIX}*.so"))
        only = f", only for {', '.join(others).replace('_', '.')}" if others else ""
        return f"the C++ extension was not built for torch {minor}{only}; {BUILD}"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"the C++ extension does not load ({error.__cause__ or error}); {BUILD}"
    return None


MISSING = _load()
