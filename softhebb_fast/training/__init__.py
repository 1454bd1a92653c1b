"""Training: a run from its configuration to its last figures, stage by stage.

from softhebb_fast.training import RunConfig, begin
begin(RunConfig("4SoftHebbCnnCIFAR", "cifar10"), "runs/cifar").run()
"""

from typing import TYPE_CHECKING

from softhebb_fast.lazy import lazily

if TYPE_CHECKING:
    from softhebb_fast.training.backprop_config import BackpropConfig as BackpropConfig
    from softhebb_fast.training.config import RunConfig as RunConfig
    from softhebb_fast.training.layers import train_layers as train_layers
    from softhebb_fast.training.ridge import RidgeClassifier as RidgeClassifier
    from softhebb_fast.training.run_folder import Run as Run
    from softhebb_fast.training.run_folder import load_run as load_run
    from softhebb_fast.training.runs import begin as begin
    from softhebb_fast.training.runs import resume as resume
    from softhebb_fast.training.softmax import SoftmaxClassifier as SoftmaxClassifier
    from softhebb_fast.training.together import learn_together as learn_together
    from softhebb_fast.training.trainer import Trainer as Trainer

PLACES = {
    "BackpropConfig": "backprop_config",
    "Run": "run_folder",
    "RidgeClassifier": "ridge",
    "SoftmaxClassifier": "softmax",
    "RunConfig": "config",
    "Trainer": "trainer",
    "begin": "runs",
    "learn_together": "together",
    "load_run": "run_folder",
    "resume": "runs",
    "train_layers": "layers",
}

__all__ = list(PLACES)

if not TYPE_CHECKING:  # which would take any name for one that there is
    __getattr__, __dir__ = lazily(__name__, PLACES)
