"""The public functions: arguments checked, shapes documented, backend chosen."""

from softhebb_fast.functional.components import (
    CompetitionStatistics,
    competition_statistics,
    hebbian_step_,
    hebbian_update,
    norm_dependent_rate,
    soft_wta,
)
from softhebb_fast.functional.hebbian import (
    HebbianBlockOutput,
    HebbianStep,
    hebbian_block,
    hebbian_conv1d,
    hebbian_conv2d,
    hebbian_conv2d_step_,
    hebbian_linear,
    hebbian_linear_step_,
)
from softhebb_fast.functional.operators import (
    BlockOutput,
    Step,
    softhebb_block,
    softhebb_conv1d,
    softhebb_conv2d,
    softhebb_conv2d_step_,
    softhebb_linear,
    softhebb_linear_step_,
)
from softhebb_fast.options import Epilogue
from softhebb_fast.reference import HebbianOutput, SoftHebbOutput

__all__ = [
    "BlockOutput",
    "CompetitionStatistics",
    "Epilogue",
    "HebbianBlockOutput",
    "HebbianOutput",
    "HebbianStep",
    "SoftHebbOutput",
    "Step",
    "competition_statistics",
    "hebbian_block",
    "hebbian_conv1d",
    "hebbian_conv2d",
    "hebbian_conv2d_step_",
    "hebbian_linear",
    "hebbian_linear_step_",
    "hebbian_step_",
    "hebbian_update",
    "norm_dependent_rate",
    "soft_wta",
    "softhebb_block",
    "softhebb_conv1d",
    "softhebb_conv2d",
    "softhebb_conv2d_step_",
    "softhebb_linear",
    "softhebb_linear_step_",
]
