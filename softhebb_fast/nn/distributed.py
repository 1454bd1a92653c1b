"""Layers that learn from a batch whose parts lie in several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from softhebb_fast.functional.distributed import Processes, check_group, spread_all
from softhebb_fast.nn.batch_norm import batch_norms, put_over
from softhebb_fast.nn.layer import HebbianLayer


@torch.no_grad()
def synchronise(
    model: nn.Module, process_group: dist.ProcessGroup | None = None, *, apart: bool = False
) -> nn.Module:
    """Let the Hebbian layers of ``model`` learn from the batches of all processes together.

    Every process calls it, with a model of the same layers. Weights, biases and the state of rules
    become those of the group's first process. From then on n processes, each with a part of a
    batch, learn what one process learns from the whole batch, up to rounding. Their weights stay
    the same bit by bit, on machines of one kind. Updates of 16-bit weights are computed in float32,
    since sums leave their range.

    The batch norms of ``model`` take the mean and variance of all parts in training mode, with
    gradients through them. They stay the same modules but get a class of this package.

    All processes must make the same training forwards; a part may be empty. With
    ``tie_rule="spread"`` positions are counted in each part.

    Args:
        model: a layer, or a model that holds some. It may be wrapped in
            ``DistributedDataParallel``, which then wants ``find_unused_parameters=True``.
        process_group: all processes if not given.
        apart: let every process learn from its own batches alone instead, also under
            ``DistributedDataParallel``.

    Returns ``model``. Copies keep the group; a pickled model forgets it.

    Raises ValueError for a model without Hebbian layers, TypeError for a group that is none or
    does not hold this process, RuntimeError where ``torch.distributed`` is not initialised.
    """
    layers = [module for module in model.modules() if isinstance(module, HebbianLayer)]
    if not layers:
        raise ValueError(f"model must hold a Hebbian layer; got {type(model).__name__}")
    if apart:
        put_together(model, Processes(None))
        return model
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "torch.distributed must be initialised: call torch.distributed.init_process_group "
            "in every process first"
        )
    group = dist.group.WORLD if process_group is None else process_group
    check_group(group)
    norms = batch_norms(model)
    kept = (t for part in (*layers, *norms) for t in (*part.parameters(), *part.buffers()))
    spread_all(dict.fromkeys(kept), group)
    put_together(model, Processes(group))
    return model


def put_together(model: nn.Module, processes: Processes | None) -> None:
    """Let the Hebbian layers and batch norms of ``model`` add up over ``processes``, in which their
    weights and state are the same; None takes them out again."""
    for module in model.modules():
        if isinstance(module, HebbianLayer):
            module.processes = processes
    put_over(processes, model)
