"""The symmetry of a model's channels, recorded while it trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from softhebb_fast.files import write_csv
from softhebb_fast.init import Symmetry, symmetry
from softhebb_fast.init.common import check_model
from softhebb_fast.training.config_checks import checked_steps

FILE = "symmetry.csv"
COLUMNS = ("step", "weight", *(f.name for f in fields(Symmetry)), "gradient")


class SymmetryRecorder:
    """Records ``init.symmetry`` of ``model`` after chosen steps of its training.

        recorder = SymmetryRecorder(model, (0, 1, 10, 100))
        for step in range(1, 101):
            ...                              # the optimizer's step
            recorder.record(step - 1, step)

    Changes are those since the recorder was made. Raises TypeError or ValueError for a model that
    is no module and for steps that are no whole numbers from 0 on.

    Attributes:
        rows: one a step and weight: ``step``, ``weight`` (its name), the fields of ``Symmetry``
            and, where the weight has one, the largest magnitude of its ``gradient``.
    """

    model: nn.Module
    steps: frozenset[int]

    def __init__(self, model: nn.Module, steps: Iterable[int]) -> None:
        check_model(model)
        self.model, self.steps = model, frozenset(checked_steps(steps, "steps"))
        self.rows: list[dict[str, Any]] = []
        self._start = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if self.steps
        }

    def due(self, before: int, after: int) -> bool:
        """Whether a chosen step lies behind ``before``, up to ``after``."""
        return any(before < step <= after for step in self.steps)

    def record(self, before: int, after: int) -> None:
        """Record the state after step ``after``, if a chosen one lies behind ``before``."""
        if self.due(before, after):
            self.rows += self._measured(after)

    def write(self, folder: Path) -> None:
        """Write all rows to ``folder / "symmetry.csv"``, atomically, if there are any."""
        if self.rows:
            rounded = ({k: _rounded(v) for k, v in row.items()} for row in self.rows)
            write_csv(folder / FILE, COLUMNS, rounded)

    @torch.no_grad()
    def _measured(self, step: int) -> list[dict[str, Any]]:
        parameters = dict(self.model.named_parameters())
        rows = []
        for name, found in symmetry(self.model, self._start).items():
            row = {"step": step, "weight": name, **asdict(found)}
            if (gradient := parameters[name].grad) is not None:
                row["gradient"] = float(gradient.abs().max())
            rows.append(row)
        return rows


def _rounded(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value
