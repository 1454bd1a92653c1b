"""What is timed of a case: a provider makes a call out of it and its inputs.

The call makes one step and returns what it computed; the weights among the inputs change in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softhebb_fast import backends, precision
from softhebb_fast.bench.cases import Case
from softhebb_fast.bench.inputs import Inputs

Call = Callable[[], list[Tensor]]


@dataclass(frozen=True, eq=False)
class Provider:
    """Attributes:
    name: as in the CSV.
    text: what it is, in a line.
    makes: a function from a case and its inputs to a call, for every kind of case it serves.
    device: the only type of device it serves, or None.
    backend: of this package, if it is one.
    layout: of its images, maps and filters, brought about before it is timed.
    denormals: left as they come; all others flush them to zero, as the command does.
    compiles: its first call is much longer than the next ones.
    partial: computes less than a step: shown for comparison, nothing to check.
    precision: of its products: ``"float32"``, or a name of ``gate.TOLERANCES``.
    dtype: of its images, maps and filters.
    memory_factor: its memory over ``Case.bytes``, about.
    scratch: bytes that it takes besides.
    most: numbers of weights and positions that a call takes up, at most: of a layer with more a
        part of the samples is timed.
    rules: names of ``kinds.RULES`` that it serves, or None for all.
    """

    name: str
    text: str
    makes: dict[str, Callable[[Case, Inputs], Call]]
    device: str | None = None
    backend: str | None = None
    layout: torch.memory_format = torch.contiguous_format
    denormals: bool = False
    compiles: bool = False
    partial: bool = False
    precision: str = "float32"
    dtype: torch.dtype = torch.float32
    memory_factor: float = 0.6
    scratch: int = 0
    most: int | None = None
    rules: tuple[str, ...] | None = None

    def why_not(self, case: Case, device: torch.device) -> str | None:
        """The reason why this provider does not serve the case there, or None."""
        if case.kind not in self.makes:
            return f"has no {case.kind}"
        if self.rules is not None and (missing := case.rules.difference(self.rules)):
            return f"has no rule {', '.join(sorted(missing))}"
        if self.device not in (None, device.type):
            return f"is for {self.device} tensors"
        if self.backend is None:
            return None
        reason = backends.why_not(self.backend, device)
        return reason or precision.why_not(self.products, device.type)

    def part(self, case: Case) -> Case:
        """The case with as many samples as a call may have, and as many more calls."""
        if self.most is None:
            return case
        sizes = (n for n in range(case.batch, 0, -1) if case.batch % n == 0)
        asked = case.flops // 4 / case.batch  # of a sample
        batch = next((n for n in sizes if n * asked <= self.most), 1)
        return replace(case, batch=batch, calls=case.calls * case.batch // batch)

    def memory(self, case: Case) -> float:
        """Bytes, about."""
        return self.scratch + self.memory_factor * self.part(case).bytes

    @property
    def products(self) -> str:
        """The precision by the name that this package has for it."""
        return "ieee" if self.precision in ("float32", "bfloat16") else self.precision

    def set_precision(self) -> None:
        """Let this process, package and torch, take float32 products so from now on."""
        os.environ[precision.VARIABLE] = self.products
        for library in (torch.backends.cudnn, torch.backends.cuda.matmul):
            library.allow_tf32 = self.precision == "tf32"

    def make(self, case: Case, given: Inputs) -> Call:
        return self.makes[case.kind](case, given)
