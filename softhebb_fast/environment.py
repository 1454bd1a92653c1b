"""The environment variables of the project, and what each may hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple


class Variable(NamedTuple):
    """What a variable means, and its values; none where any text will do."""

    meaning: str
    values: tuple[str, ...] = ()


VARIABLES: dict[str, Variable] = {
    "SOFTHEBB_FAST_DATA": Variable("folder of the data sets"),
    "SOFTHEBB_FAST_BUILD": Variable(
        "whether installing builds the native kernels", ("auto", "0", "1")
    ),
    "SOFTHEBB_FAST_TORCH": Variable("the torch that they are built with where none is installed"),
    "SOFTHEBB_FAST_AUTOTUNE": Variable(
        "whether the Triton kernels are tuned to this GPU", ("0", "1")
    ),
    "SOFTHEBB_FAST_WINOGRAD": Variable(
        "whether 3x3 layers on the CPU use Winograd's method", ("auto", "0", "1")
    ),
    "SOFTHEBB_FAST_WAIT": Variable(
        "whether programs of a Triton kernel may wait for each other", ("0", "1")
    ),
    "SOFTHEBB_FAST_OVERLAP": Variable(
        "whether a launch of a Triton kernel may begin before the one ahead ends", ("0", "1")
    ),
    "SOFTHEBB_FAST_GRAPHS": Variable(
        "whether training on CUDA replays its steps from a CUDA graph", ("0", "1")
    ),
    "SOFTHEBB_FAST_COMMIT": Variable("the commit that results name, of a copy without its history"),
    "SOFTHEBB_FAST_PRECISION": Variable(
        "how float32 products are taken", ("ieee", "bf16x3", "bf16x6", "tf32", "tf32x3")
    ),
}


def complaint(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """What is wrong with the value of a variable, or None. An empty one counts as not set."""
    value = environment.get(name)
    if not value:
        return None
    values = VARIABLES[name].values
    if values and value not in values:
        allowed = ", ".join(values[:-1]) + f" or {values[-1]}"
        return f"the environment variable {name} must be {allowed}; got {value!r}"
    if name == "SOFTHEBB_FAST_DATA" and not os.path.isdir(os.path.expanduser(value)):
        return f"the environment variable {name} must be an existing folder; got {value!r}"
    return None


def switched_on(name: str, default: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable that is 0 or 1 is 1; ``default`` where it is not set or empty.

    Raises ValueError for other values.
    """
    value = environment.get(name) or str(int(default))
    if value not in ("0", "1"):
        raise ValueError(f"{name} must be 0 or 1; got {value!r}")
    return value == "1"


def check(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ValueError for the first variable whose value will not do."""
    for name in VARIABLES:
        if wrong := complaint(name, environment):
            raise ValueError(wrong)
