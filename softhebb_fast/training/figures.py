"""What a run has measured so far, and the time that it took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from softhebb_fast.training import metrics
from softhebb_fast.training.reporter import Reporter


class Figures:
    """The rows of ``metrics.csv`` and ``neurons.csv``, and a clock.

    Attributes:
        rows: each with the ``seconds`` of the clock; see ``metrics``.
        neurons: by layer, counted from 1: the figures of its neurons at the last record.
        elapsed: seconds until ``seconds`` was last called.
    """

    rows: list[metrics.MetricsRow]
    neurons: dict[int, dict[str, Any]]
    elapsed: float

    def __init__(self) -> None:
        self.rows, self.neurons, self.elapsed = [], {}, 0.0

    def start_clock(self) -> None:
        """Count from now on, after what was counted before."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """The time counted until now."""
        now = time.monotonic()
        self.elapsed += now - self._started
        self._started = now
        return self.elapsed

    def record(self, rows: list[metrics.MetricsRow], reporter: Reporter) -> None:
        """Keep ``rows`` with the time, and tell ``reporter`` of them."""
        seconds = self.seconds()
        for row in rows:
            row = metrics.keep_neurons(self.neurons, row)
            self.rows.append(row | {"seconds": seconds})
            reporter.record(self.rows[-1])

    def status(self, epoch: int, epochs: int) -> str:
        """The epoch, counted from 1, and the last accuracy in words."""
        text = f"epoch {epoch}/{epochs}"
        last = self.rows[-1] if self.rows else {}
        return f"{text}, test {last['test_accuracy']:.2f} %" if "test_accuracy" in last else text

    def write(self, folder: Path) -> None:
        metrics.write_csv(folder, self.rows)
        metrics.write_neurons(folder, self.neurons)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "neurons": self.neurons, "elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.elapsed = state["rows"], state["elapsed"]
        self.neurons = state.get("neurons", {})  # older checkpoints have none
