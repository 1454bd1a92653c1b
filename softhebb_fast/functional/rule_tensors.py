"""The tensors of a rule: checked, and in the form that backends take."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from softhebb_fast.checks import check_are_tensors
from softhebb_fast.options import RULE, Rate, Rule
from softhebb_fast.scalars import plain

NAMES = ("modulator", "target", "threshold", "counts", "lateral")
INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Place(NamedTuple):
    """Where a rule's tensors belong.

    Attributes:
        x: as the caller gave it.
        weight: ``[K, ...]``.
        size: of u as backends see it: (B, K, OH, OW), or (P, K) of a linear layer.
        groups: of the neurons.
    """

    x: Tensor
    weight: Tensor
    size: tuple[int, ...]
    groups: int = 1

    @property
    def sums(self) -> torch.dtype:
        """The dtype of the sums."""
        return torch.float64 if self.weight.dtype == torch.float64 else torch.float32

    @property
    def lead(self) -> tuple[int, ...]:
        """The dimensions of the samples, as the caller has them."""
        if self.weight.dim() == 2:
            return tuple(self.x.shape[:-1])
        return tuple(self.x.shape[: self.x.dim() - 3])

    def real(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor in the dtype of the sums, outside any graph."""
        check_are_tensors(**{name: tensor})
        if tensor.is_complex():
            raise TypeError(f"{name} must be real; got {tensor.dtype}")
        if tensor.device != self.weight.device:
            raise TypeError(
                f"{name} must lie on the device of weight, {self.weight.device}; got a tensor on "
                f"{tensor.device}"
            )
        return tensor.detach().to(self.sums)

    def of_neurons(self, name: str, tensor: Tensor) -> Tensor:
        """One number a neuron, ``[K]``."""
        found = self.real(name, tensor)
        if tuple(found.shape) != (self.weight.shape[0],):
            raise ValueError(f"{name} must be [{self.weight.shape[0]}]; got {tuple(found.shape)}")
        return found.contiguous()

    def modulator(self, tensor: Tensor) -> Tensor:
        """One number a position: ``[B, 1, OH, OW]``, or ``[P, 1]`` of a linear layer."""
        found, lead = self.real("modulator", tensor), self.lead
        positions = (self.size[0], 1, *self.size[2:])
        given = tuple(found.shape)
        if given == lead:
            beside = found.reshape(-1, *[1] * (len(positions) - 1))
            return beside.expand(positions).contiguous()
        if given == (*lead, *positions[1:]):
            return found.reshape(positions).contiguous()
        raise ValueError(
            f"modulator must be {list(lead)}, a number a sample, or {[*lead, *positions[1:]]}; got "
            f"{given}"
        )

    def target(self, tensor: Tensor) -> Tensor:
        """Of the shape of u, and of its memory format where kernels read it by that."""
        check_are_tensors(target=tensor)
        lead, given = self.lead, tuple(tensor.shape)
        if tensor.dtype in INDICES and given == lead:
            found = self._one_hot(tensor)
        else:
            found = self.real("target", tensor)
            if given not in ((*lead, self.size[1]), (*lead, *self.size[1:])):
                raise ValueError(
                    f"target must be {[*lead, *self.size[1:]]}, {[*lead, self.size[1]]} or class "
                    f"indices {list(lead)}; got {tensor.dtype} of shape {given}"
                )
            found = found.reshape(self.size[0], *given[len(lead) :])
        if len(self.size) == 2:
            return found.contiguous()
        if found.dim() == 2:
            found = found[:, :, None, None].expand(self.size)
            if found.is_cpu:
                return found
        return found.contiguous(memory_format=suggest_memory_format(self.x))

    def _one_hot(self, indices: Tensor) -> Tensor:
        """Indices outside the classes are an error on the device where reading them would wait."""
        indices, classes = indices.reshape(-1, 1).long(), self.size[1]
        if indices.is_cpu and indices.numel() and not torch.compiler.is_compiling():
            least, most = indices.aminmax()
            if least < 0 or most >= classes:
                raise ValueError(
                    f"target must hold class indices from 0 to {classes - 1}; got {int(least)} to "
                    f"{int(most)}"
                )
        zeros = torch.zeros(len(indices), classes, dtype=self.sums, device=self.weight.device)
        return zeros.scatter_(1, indices, 1.0)

    def lateral(self, tensor: Tensor) -> Tensor:
        """Weights between the neurons of a group, ``[K, K / groups]``."""
        found, neurons = self.real("lateral", tensor), self.weight.shape[0]
        if tuple(found.shape) != (neurons, neurons // self.groups):
            raise ValueError(
                f"lateral must be {[neurons, neurons // self.groups]}; got {tuple(found.shape)}"
            )
        return found.contiguous()


def fitted(rule: Rule, place: Place) -> Rule:
    """A checked rule with tensors as backends take them.

    Raises ValueError for a tensor that is missing, or that the rule does not use, and as ``Place``.
    """
    tensors, wants = {name: getattr(rule, name) for name in NAMES}, rule.wants
    for name, tensor in tensors.items():
        if tensor is None and name in wants:
            raise ValueError(
                f"{name} must be given for activity={rule.activity!r} and "
                f"normalise={rule.normalise!r}; got None"
            )
        if tensor is not None:
            _check_used(rule, name)
    if rule[:5] == RULE[:5] and all(t is None for t in tensors.values()):
        return RULE
    made = {}
    for name, tensor in tensors.items():
        if tensor is not None:
            own = name in ("modulator", "target", "lateral")
            made[name] = getattr(place, name)(tensor) if own else place.of_neurons(name, tensor)
    return rule._replace(**made)


def check_given(rule: Rule, place: Place, given: dict[str, Tensor]) -> None:
    """Raise what ``fitted`` raises for a ``target`` or a ``modulator`` of a rule."""
    for name, tensor in given.items():
        _check_used(rule, name)
        getattr(place, name)(tensor)


def _check_used(rule: Rule, name: str) -> None:
    may = {"modulator", *(("threshold",) if rule.activity == "competition" else ())}
    if name not in rule.wants and name not in may:
        raise ValueError(
            f"{name} must be None for activity={rule.activity!r} and "
            f"normalise={rule.normalise!r}, which do not use it"
        )


def checked_rate(
    lr: float | Tensor,
    lr_power: float,
    weight: Tensor,
    neuron_rates: Tensor | None = None,
    unit_norm: bool = False,
) -> Rate:
    """The rate of a step of ``weight``. Raises TypeError or ValueError, naming the argument."""
    if neuron_rates is not None:
        place = Place(weight, weight, ())
        neuron_rates = place.of_neurons("neuron_rates", neuron_rates)
    return Rate.of(lr, lr_power, weight.device, neuron_rates, bool(plain(unit_norm)))
