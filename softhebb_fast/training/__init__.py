"""Training: a run from its configuration to its last figures, stage by stage.

from softhebb_fast.training import RunConfig, begin
begin(RunConfig("4SoftHebbCnnCIFAR", "cifar10"), "runs/cifar").run()
"""

from importlib import import_module
from typing import Any

PLACES = {
    "BackpropConfig": "backprop_config",
    "Run": "run_folder",
    "RidgeClassifier": "ridge",
    "RunConfig": "config",
    "Trainer": "trainer",
    "begin": "runs",
    "load_run": "run_folder",
    "resume": "runs",
    "train_layers": "layers",
}

__all__ = list(PLACES)


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
