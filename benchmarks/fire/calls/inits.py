"""Arguments of the initialisations, drawn by hypothesis."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from benchmarks.fire.calls.arguments import DTYPES, Call, drawn
from softhebb_fast.init import FROM_DATA, INITS, ZERO_SCALES

SHAPES = ((3, 5), (1, 1), (7, 13), (5, 5), (17, 3), (7, 2, 3, 3), (5, 3, 1, 1), (3, 3, 2, 5))
RADII = (25.0, 1.0, 1e-6, 1e4)
OPTIONS: dict[str, dict[str, tuple]] = {
    "zerO": {"scale": ZERO_SCALES, "radius": (None, *RADII)},
    "hadamard_patches": {"radius": RADII, "signs": ("walsh", "rudin_shapiro")},
    "walsh_binary": {"radius": RADII, "signs": ("walsh", "rudin_shapiro")},
    "residue_binary": {"radius": RADII, "every": (16, 2, 3)},
    "hadamard_taps": {"radius": RADII},
    "identity_taps": {"radius": RADII},
    "random_binary": {"probability": (0.5, 0.0, 1.0, 0.3)},
    "constant": {"value": (None, 0.0, -1.5, 1e30), "radius": RADII},
    "random_bias": {"distribution": ("normal", "uniform"), "scale": (1.0, 1e-6, 1e4)},
    **{
        name: {"radius": RADII, "lebesgue_p": (2.0, 1.0, 3.0, 0.5)}
        for name in ("normal", "positive", "negative", "patches", "kmeans")
    },
}
DRAW = ("normal", "positive", "negative", "random_binary", "random_bias", *FROM_DATA)


@st.composite
def inits(draw: st.DrawFn) -> Call:
    name = draw(st.sampled_from([*INITS, *FROM_DATA]))
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    weight = draw(drawn(shape, dtype, extreme=True, shared=False))
    if weight.layout == "negated":  # what torch itself copies into such a view has lost its sign
        weight = weight._replace(layout="sliced")
    tensors = {"weight": weight}
    options: dict[str, Any] = {
        key: draw(st.sampled_from(values)) for key, values in OPTIONS.get(name, {}).items()
    }
    if name in DRAW:
        options["seeded"] = True
    if name == "random_bias":
        tensors["bias"] = draw(drawn(shape[:1], dtype, shared=False))
    if name in FROM_DATA:
        size = 40, math.prod(shape[1:])
        tensors["patches"] = draw(drawn(size, draw(st.sampled_from(DTYPES)), shared=False))
    refused = unfit(name, shape, tensors, options)
    if name == "constant" and dtype == "float16" and options["value"] == 1e30:
        refused = ("value",)
    return Call(name, "torch", tensors, options, refused)


def unfit(
    name: str, shape: tuple[int, ...], tensors: dict[str, Any], options: dict[str, Any]
) -> tuple[str, ...]:
    """The argument that an initialisation refuses, as its docstring says."""
    filters, channels, size = shape[0], shape[1], math.prod(shape[1:])
    if name in ("hadamard_patches", "walsh_binary"):
        refused = filters.bit_length() >= size
    elif name == "residue_binary":
        return () if distinct(residues(filters, size, options["every"])) else ("every",)
    elif name == "hadamard_taps":
        refused = -(-filters // (1 << (channels - 1).bit_length())) >= 1 << (size // channels)
    elif name == "identity_taps":
        refused = filters.bit_length() > size
    elif name == "identity":
        refused = filters != channels
    else:
        if name not in FROM_DATA:
            return ()
        rows = tensors["patches"].make().float()
        rows = rows[rows.any(dim=1)].unique(dim=0) if rows.isfinite().all() else rows[:0]
        return ("patches",) if len(rows) < filters else ()
    return ("weight",) if refused else ()


def residues(filters: int, size: int, every: int) -> list[list[bool]]:
    """Which numbers of each filter are powers with the exponent ``every``, one by one."""
    prime = filters * size + 1
    while prime % every != 1 or any(prime % d == 0 for d in range(2, prime)):
        prime += 1
    powers = {pow(x, every, prime) for x in range(1, prime)}
    return [[k * size + n + 1 in powers for n in range(size)] for k in range(filters)]


def distinct(rows: list[list[bool]]) -> bool:
    return len({tuple(row) for row in rows}) == len(rows) and all(map(any, rows))
