"""A run on some training images, judged by others."""

from __future__ import annotations

import tempfile

from softhebb_fast.search.trial import Budget, HeldOut
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.metrics import MetricsRow


def judged(
    config: RunConfig, budget: Budget, data: str | None
) -> tuple[float, dict[int, MetricsRow]]:
    """The accuracy in per cent, rounded, and the last figures of each layer, counted from 1."""
    with tempfile.TemporaryDirectory(prefix="softhebb-trial-") as folder:
        run = HeldOut(budget, config, folder, root=data)
        accuracy = run.run()["test_accuracy"]
    return round(accuracy, 2), {row["layer"]: row for row in run.rows if "layer" in row}
