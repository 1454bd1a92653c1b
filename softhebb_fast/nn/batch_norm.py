"""Batch norms whose batch lies in several processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from softhebb_fast.functional.distributed import Processes, over
from softhebb_fast.reference import accumulated


class _OverProcesses:
    """A batch norm that takes mean and variance over its processes, if it has any.

    Each gives the count, the sum and the sum of squares of its part, in float64 and counted from
    the running mean, so that little cancels. A part may be empty.
    """

    processes: Processes | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.processes):
            return super().forward(x)
        self._check_input_dim(x)
        values = accumulated(x)
        mean, var, count = self._moments(values)
        self._keep(mean, var, count)
        mean, var = mean.to(values.dtype), var.to(values.dtype)
        weight, bias = self.weight, self.bias
        if not mean.requires_grad:
            return F.batch_norm(x, mean, var, weight, bias, False, 0.0, self.eps)
        y = (values - _beside(mean, x)) * _beside((var + self.eps).rsqrt(), x)
        y = y if weight is None else y * _beside(weight, x) + _beside(bias, x)
        return y.to(x.dtype)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance ``[C]`` of all parts, and how many values they are of."""
        channels, dims = x.shape[1], (0, *range(2, x.dim()))
        count = x.numel() // channels
        if count:
            var, mean = torch.var_mean(x, dims, correction=0)
        else:  # of which a gradient is zero, and not missing
            var = mean = x.sum(dims)
        shift = torch.zeros_like(mean) if self.running_mean is None else self.running_mean
        shift = shift.detach().double()
        from_shift = mean.double() - shift
        sums = torch.cat([from_shift, var.double() + from_shift.square()]) * count
        sums = torch.cat([sums, sums.new_full((1,), count)])
        total = _Summed.apply(sums, self.processes)
        if count < 2 and float(total[-1]) < 2:
            raise ValueError(
                "x must have more than one value a channel in the parts of all processes; got "
                f"{tuple(x.shape)} in this one"
            )
        first, second = (total[:-1] / total[-1]).split(channels)
        return first + shift, (second - first.square()).clamp(min=0), total[-1]

    @torch.no_grad()
    def _keep(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics, as torch's batch norms do."""
        if self.running_mean is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / self.num_batches_tracked.double()
        unbiased = var * (count / (count - 1))
        for running, found in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.copy_((1 - share) * running.double() + share * found)


class SynchronisedBatchNorm1d(_OverProcesses, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over processes; see ``synchronise``."""


class SynchronisedBatchNorm2d(_OverProcesses, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over processes; see ``synchronise``."""


class SynchronisedBatchNorm3d(_OverProcesses, nn.BatchNorm3d):
    """``nn.BatchNorm3d`` over processes; see ``synchronise``."""


KINDS = {
    nn.BatchNorm1d: SynchronisedBatchNorm1d,
    nn.BatchNorm2d: SynchronisedBatchNorm2d,
    nn.BatchNorm3d: SynchronisedBatchNorm3d,
}


PLAIN = {over: plain for plain, over in KINDS.items()}


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Those of ``model`` that can be put over processes: of torch's own kinds."""
    return [module for module in model.modules() if type(module) in (*KINDS, *PLAIN)]


def put_over(processes: Processes | None, model: nn.Module) -> nn.Module:
    """Let the batch norms of ``model`` take their statistics over ``processes``, or alone if that
    is None: the same modules, of another class. Returns ``model``."""
    for norm in batch_norms(model):
        norm.__dict__.pop("processes", None)
        if processes:
            norm.__class__ = KINDS.get(type(norm), type(norm))
            norm.processes = processes
        else:
            norm.__class__ = PLAIN.get(type(norm), type(norm))
    return model


class _Summed(torch.autograd.Function):
    """The sum over processes. Its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes) -> Tensor:
        ctx.total = over(processes.group)
        return ctx.total(own.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.total(grad.clone()), None


def _beside(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))
