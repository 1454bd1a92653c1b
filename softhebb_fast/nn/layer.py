"""What convolution and linear SoftHebb layers share: options, the learning step, statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from softhebb_fast import functional
from softhebb_fast.backends import BACKENDS
from softhebb_fast.functional import SoftHebbOutput, Step
from softhebb_fast.functional.autocast import autocasts
from softhebb_fast.functional.distributed import Processes
from softhebb_fast.functional.rounding import add_
from softhebb_fast.functional.transforms import recomputing
from softhebb_fast.init import Init, initialise, needs_data
from softhebb_fast.kinds import ROUNDINGS, UPDATES
from softhebb_fast.nn import guards, handing
from softhebb_fast.nn.recording import check_input, recorded
from softhebb_fast.options import COMPETITION, Competition, check_among
from softhebb_fast.reference import accumulated
from softhebb_fast.scalars import at_least_zero, number, whole


class HebbianLayer(nn.Module):
    """A layer whose forward learns in training mode and is a plain product in evaluation mode.

    What ``SoftHebbConv2d`` and ``SoftHebbLinear`` share; they document the arguments.

    Args:
        shape: of the weight.
        neurons_a_group: how many neurons compete with each other.
        competition: how they do.

    ``bias``, ``init``, ``radius``, ``lr``, ``lr_power``, ``schedule``, ``update``, ``rounding``,
    ``backend``, ``generator``, ``device`` and ``dtype`` mean what they mean in ``SoftHebbConv2d``.
    """

    r1_tolerance: float
    bias_rate: float
    rounding: str = "nearest"
    processes: Processes | None = None
    handed: handing.Handed | None = None
    notices: bool = True
    waits_for_data: bool = False
    _met: tuple | None = None
    schedule: Callable[[int], float] | None = None
    steps: int = 0
    init: Init
    radius: float
    lr: float | None
    lr_power: float
    update: str
    backend: str
    t_invert: float
    wta: str
    delta: float
    rank: int
    lebesgue_p: float
    tie_rule: str
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        shape: tuple[int, ...],
        neurons_a_group: int,
        competition: Competition,
        *,
        bias: bool,
        init: Init,
        radius: float,
        lr: float | None,
        lr_power: float,
        schedule: Callable[[int], float] | None,
        update: str,
        rounding: str,
        backend: str,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        competition = competition.checked(neurons_a_group)
        check_among("update", update, UPDATES)
        if schedule is not None:
            _check_schedule(schedule, update, lr)
        elif update == "in_place" and lr is None:
            raise ValueError("lr must be given for update='in_place', or schedule; got None")
        if lr is not None:
            lr = _checked_rate(lr)
        check_among("rounding", rounding, ROUNDINGS)
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
        for name, value in competition._asdict().items():
            setattr(self, name, value)
        self.init, self.radius, self.schedule = init, number("radius", radius), schedule
        self.lr, self.lr_power = lr, number("lr_power", lr_power)
        self.update, self.backend, self.rounding = update, backend, rounding
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew; a bias starts at ``log(1 / K) / t``, a uniform prior.

        ``generator`` is for random initialisations. The count of steps starts anew, too. A callable
        ``init`` is given a weight of NaN. A start from data leaves zeros until
        ``nn.initialise_from`` makes it. An error leaves the layer as it was.
        """
        before = [(p, p.clone()) for p in (self.weight, self.bias) if p is not None]
        try:
            self._draw(generator)
        except Exception:
            for parameter, value in before:
                parameter.copy_(value)
            raise
        self.steps = 0

    def _draw(self, generator: torch.Generator | None) -> None:
        if callable(self.init):
            self.weight.fill_(float("nan"))
        if self.bias is not None:
            self.bias.fill_(-torch.tensor(float(self.weight.shape[0])).log() / self.t_invert)
        self.waits_for_data = needs_data(self.init)
        if self.waits_for_data:
            self.weight.zero_()
            return
        initialise(
            self.weight,
            self.bias,
            self.init,
            radius=self.radius,
            lebesgue_p=self.lebesgue_p,
            generator=generator,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The pre-activations u of ``x``, from the weights as they were before this call.

        In training mode, unless ``weight.requires_grad`` is False (a frozen layer), the update of
        this batch is assigned to ``weight.grad`` (an ascent direction; ``update="grad"``) or
        applied to the weights (``update="in_place"``). u is then differentiable in x only, and
        autocast does not lower the precision; in evaluation mode both are as in a plain layer.

        While it is traced or exported the layer consists of torch's own operators; one that learns
        then raises RuntimeError. Raises TypeError or RuntimeError where the update would be lost,
        saying what to do.
        """
        return self._learn(x, {})

    def _learn(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        """``forward``, with what is ``given`` for this batch alone to the layer's function."""
        check_input(x)
        if recorded(x):
            # torch.fx hands out a stand-in for self.weight.
            if self.training and getattr(self._parameters.get("weight"), "requires_grad", True):
                raise RuntimeError(
                    "a layer that learns cannot be traced or exported, its step would be lost; "
                    "call eval() first, or freeze the layer with requires_grad_(False)"
                )
            return self._product(x, self.weight, self.bias)
        if self.waits_for_data:
            guards.check_started(self)
        if autocasts(x.device):
            x = x.to(self.weight.dtype)
        if not self.learns:
            u = self._product(x, self.weight, self.bias)
            self._check_given(x, u, given)
            return u
        if self.update == "in_place":
            return self.step_(x, **given)
        self.check_step()
        out = self._hebbian(x, *self.detached(), **self._summed(), **given)
        self.assign(out.delta_w, out.delta_b)
        self.learned(out, x)
        return out.u

    def step_(self, x: Tensor, **known: Any) -> Tensor:
        """Step the weights in place on ``x``; u as it was before.

        ``known`` are options of the layer's function beside its own, such as ``x_bound``.
        """
        self.check_step()
        weight, bias = self.detached()
        rates = None if bias is None else self.learning_rates()
        graph = torch.is_grad_enabled() and x.requires_grad
        if graph or not self.steps_at_once:
            before = weight.clone() if graph else weight
            out = self._hebbian(x, before, bias, **self._summed(), **known)
            options = self.base_rate(), self.lr_power, self.lebesgue_p
            more = {"rounding": self.rounding, **self.step_options()}
            functional.hebbian_step_(weight, out.delta_w, *options, **more)
        else:
            out = self._hebbian_step_(x, weight, bias, **known)
        self.step_bias_(rates, out.delta_b)
        self.learned(out, x)
        return out.u

    def step_options(self) -> dict[str, Any]:
        """The arguments of a step in place beside its rate."""
        return {}

    def _check_given(self, x: Tensor, u: Tensor, given: dict[str, Any]) -> None:
        """Raise what a forward that learns raises for what is ``given`` for a batch alone."""

    def learned(self, out: NamedTuple, x: Tensor) -> None:
        """Called after every update of a batch ``x`` with what the function gave as ``out``."""

    @property
    def competition(self) -> Competition:
        return Competition(*(getattr(self, name) for name in Competition._fields))

    def options(self) -> dict[str, Any]:
        """The arguments of the layer's function that say how it computes."""
        return {**self.competition._asdict(), "backend": self.backend}

    @torch.no_grad()
    def hebbian_update(self, x: Tensor) -> SoftHebbOutput:
        """u of ``x`` and the update that it asks for, in any mode; changes nothing."""
        return self._hebbian(x, *self.detached())

    @property
    def learns(self) -> bool:
        """Whether a forward learns: in training mode, unless the weight is frozen.

        Raises TypeError where it would and ``weight`` or ``bias`` is no parameter of the layer.
        """
        if not self.training:
            return False
        weight, bias = self._parameters.get("weight"), self._parameters.get("bias", self)
        if type(weight) is nn.Parameter and type(bias) in (nn.Parameter, type(None)):
            return weight.requires_grad
        return guards.steppable(self)

    @property
    def steps_at_once(self) -> bool:
        """Whether a step in place may be one call of a kernel."""
        return self.rounding == "nearest" and not self.processes

    def check_step(self) -> None:
        """Raise RuntimeError where a step would be lost, made twice, or made by one of many."""
        if not torch.compiler.is_compiling():
            guards.check_call(self)
            weight = self.weight
            met = id(weight), weight.dtype, self.update, self.rounding
            if self._met != met:
                guards.meet(self)
                self._met = met

    def detached(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, outside any graph."""
        return self.weight.detach(), None if self.bias is None else self.bias.detach()

    def assign(self, delta_w: Tensor, delta_b: Tensor | None) -> None:
        """Hand ``delta_w`` and ``delta_b`` to an optimizer, as gradients of weight and bias.

        They replace what is there. A forward that is repeated in a backward pass hands nothing.
        """
        if not torch.compiler.is_compiling():
            if recomputing():
                return
            before = handing.notice(self)
        handing.assign(self.weight, _ordinary(delta_w))
        if delta_b is not None and self.bias.requires_grad:
            handing.assign(self.bias, _ordinary(self.bias_rate / self.t_invert * delta_b))
        if not torch.compiler.is_compiling():
            self.handed = handing.Handed.of(self.weight, before)

    @torch.no_grad()
    def step_bias_(self, rates: Tensor | None, delta_b: Tensor | None) -> None:
        """The end of a step in place: the bias moves by the neurons' ``rates`` along ``delta_b``,
        if it learns, and a layer with a schedule counts the step."""
        if self.schedule is not None:
            self._count()
        if delta_b is not None and self.bias.requires_grad:
            add_(self.bias, rates * (self.bias_rate / self.t_invert) * delta_b, self.rounding)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and files take on: not what was noticed of this weight."""
        return {k: v for k, v in self.__dict__.items() if k not in ("handed", "_met")}

    def base_rate(self) -> float | Tensor | None:
        """The base rate of the next step in place: ``lr``, or what ``schedule`` says.

        Inside ``torch.compile`` a schedule's is a tensor, so that a new rate compiles nothing anew.
        Outside it an ``lr`` that was set later is checked as a new layer's is.
        """
        if self.schedule is None:
            lr = self.lr
            return lr if lr is None or torch.compiler.is_compiling() else _checked_rate(lr)
        if torch.compiler.is_compiling():
            from softhebb_fast.nn import uncompiled

            return uncompiled.rate(self)
        return self.scheduled()

    def scheduled(self) -> float:
        """What ``schedule`` says for the next step."""
        rate = number("the rate of schedule", self.schedule(self.steps))
        if not 0 <= rate < math.inf:
            raise ValueError(
                "schedule must give finite rates that are not negative; got "
                f"{rate!r} for step {self.steps}"
            )
        return rate

    def _count(self) -> None:
        if torch.compiler.is_compiling():
            from softhebb_fast.nn import uncompiled

            uncompiled.count(self)
        else:
            self.steps += 1

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.schedule is not None:
            destination[f"{prefix}steps"] = torch.tensor(self.steps)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        steps = state_dict.pop(f"{prefix}steps", None)
        if steps is not None:
            self.steps = whole("steps", steps, least=0)
        elif f"{prefix}weight" in state_dict:
            self.steps = 0  # a state from before the layer had a schedule
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None:
            # Filters of zeros are those of a layer that waits itself.
            waits = needs_data(self.init) and not weight.is_meta
            self.waits_for_data = waits and not weight.any()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __prepare_scriptable__(self) -> nn.Module:
        raise RuntimeError(
            f"{type(self).__name__} cannot be scripted; use torch.jit.trace or torch.export on the "
            "model in evaluation mode"
        )

    def norms(self) -> Tensor:
        """The Lebesgue norm of every filter, ``[K]``: float64 for float64 weights, else float32."""
        weight = accumulated(self.weight.detach()).flatten(1)
        return torch.linalg.vector_norm(weight, ord=self.lebesgue_p, dim=1)

    def convergence(self) -> tuple[float, int]:
        """Mean distance of the norms from 1, and R1: how many neurons lie at 1.

        A neuron counts within 0.01 (convolution) or 0.005 (linear), as published.
        """
        distance = (self.norms() - 1).abs()
        return float(distance.mean()), int((distance < self.r1_tolerance).sum())

    def learning_rates(self) -> Tensor:
        """The rate of every neuron at the next in-place step, ``[K]``.

        Needs ``lr`` or ``schedule``.
        """
        base = self.base_rate()
        if base is None:
            raise ValueError("lr must be given to compute rates; this layer has lr=None")
        return functional.norm_dependent_rate(
            self.weight.detach(), base, self.lr_power, self.lebesgue_p
        )

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _summed(self) -> dict[str, dist.ProcessGroup]:
        return {"process_group": self.processes.group} if self.processes else {}

    def _hebbian(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, **given: Any
    ) -> SoftHebbOutput:
        raise NotImplementedError

    def _hebbian_step_(self, x: Tensor, weight: Tensor, bias: Tensor | None, **known: Any) -> Step:
        raise NotImplementedError

    def _options(self) -> str:
        parts = [f"t_invert={self.t_invert}", f"wta={self.wta!r}"]
        if self.competition.ranks:
            parts.append(f"delta={self.delta}, rank={self.rank}")
        for name in ("lebesgue_p", "tie_rule"):
            if getattr(self, name) != getattr(COMPETITION, name):
                parts.append(f"{name}={getattr(self, name)!r}")
        if self.bias is not None:
            parts.append("bias=True")
        parts.append(f"update={self.update!r}")
        if self.schedule is not None:
            name = getattr(self.schedule, "__name__", self.schedule)
            parts.append(f"schedule={name}, lr_power={self.lr_power}")
        elif self.lr is not None:
            parts.append(f"lr={self.lr}, lr_power={self.lr_power}")
        if self.rounding != "nearest":
            parts.append(f"rounding={self.rounding!r}")
        if self.backend != "auto":
            parts.append(f"backend={self.backend!r}")
        return ", ".join(parts)


def check_sizes(**sizes: int) -> tuple[int, ...]:
    """The sizes as ints, all of them at least 1."""
    return tuple(whole(name, size, least=1) for name, size in sizes.items())


def _check_schedule(schedule: Callable[[int], float], update: str, lr: float | None) -> None:
    if not callable(schedule):
        raise TypeError(f"schedule must be a function of the step; got {schedule!r}")
    if update != "in_place":
        raise ValueError(
            "schedule is for update='in_place'; the steps of update='grad' are the optimizer's, "
            "and so is their rate"
        )
    if lr is None:
        return
    first = number("the rate of schedule", schedule(0))
    if not math.isclose(number("lr", lr), first):
        raise ValueError(
            f"lr must be left out, or be the rate of schedule at step 0, {first}; got {lr!r}"
        )


def _checked_rate(lr: float) -> float:
    try:
        return at_least_zero("lr", lr)
    except ValueError:
        raise ValueError(
            f"lr must not be negative or infinite, the layer ascends by itself; got {lr!r}"
        ) from None


def _ordinary(gradient: Tensor) -> Tensor:
    """A copy that an optimizer may change outside inference mode, if made inside it."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return gradient
    with torch.inference_mode(False), torch.no_grad():
        return gradient.clone()
