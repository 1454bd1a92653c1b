"""Whether something other than values flows through a call."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def transforming() -> bool:
    """Whether a transform of ``torch.func`` or forward-mode differentiation is at work."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return forward_ad._current_level >= 0


def recomputing() -> bool:
    """Whether a backward pass is at work, as when activation checkpointing repeats a forward."""
    return torch._C._current_graph_task_id() != -1
