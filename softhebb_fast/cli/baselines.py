"""What a run's classifier makes of the pixels, and of the layers before they have learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from softhebb_fast.cli.progress import stops_on_interrupt
from softhebb_fast.training import runs
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.run_folder import CONFIG_FILE

PIXELS, UNTRAINED = "pixels", "untrained"


def configs(config: RunConfig) -> dict[str, RunConfig]:
    """The runs that ``config`` is measured against, by the names of their folders.

    Raises ValueError for a mode in which its layers learn together with what is above them.
    """
    if config.mode != "successive":
        raise ValueError(f"baselines are for mode='successive'; got {config.mode!r}")
    same = {"init": None, "width_factor": None, "neuron_factor": 1.0}
    return {
        PIXELS: replace(config, preset="Linear", features=None, **same),
        UNTRAINED: replace(config, unsup_epochs=0),
    }


def make(trained: Loop) -> dict[str, dict[str, Any]]:
    """The last figures of both runs, made or gone on with in the folder of ``trained``."""
    found, options = {}, {"root": trained.root, "reporter": trained.reporter}
    for name, config in configs(trained.config).items():
        folder = trained.out / name
        if (folder / CONFIG_FILE).exists():
            run = runs.resume(folder, **options)
        else:
            run = runs.begin(config, folder, **options)
        with stops_on_interrupt(run):
            found[name] = run.run()
    return found


def text(learned: dict[str, Any], found: dict[str, dict[str, Any]]) -> str:
    """The figures side by side, from the least that was learned to the most."""
    before = found[UNTRAINED]
    lines = [
        "test accuracy of the same classifier",
        f"  on the pixels                    {found[PIXELS]['test_accuracy']:6.2f} %",
        f"  on the layers as they started    {before['test_accuracy']:6.2f} %",
        f"  on what they have learned        {learned['test_accuracy']:6.2f} %",
    ]
    if "neuron_accuracy" in learned:
        lines += [
            "test accuracy by the winner's label, without a classifier",
            f"  of the layer as it started       {before['neuron_accuracy']:6.2f} %",
            f"  of what it has learned           {learned['neuron_accuracy']:6.2f} %",
        ]
    return "\n".join(lines)
