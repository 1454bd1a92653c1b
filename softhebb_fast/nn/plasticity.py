"""What layers of any rule have beside SoftHebb's: the rule, its state, what a batch is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softhebb_fast.functional import HebbianOutput
from softhebb_fast.functional.autocast import autocast_disabled
from softhebb_fast.functional.distributed import over
from softhebb_fast.functional.rounding import SHORT
from softhebb_fast.functional.rule_tensors import NAMES, Place, check_given
from softhebb_fast.functional.transforms import recomputing
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.recording import recorded
from softhebb_fast.options import RULE, Competition, Rule, usual_lr_power
from softhebb_fast.reference import EPSILON
from softhebb_fast.scalars import at_least_zero, plain, positive

STATE = ("threshold", "counts", "lateral", "shares", "neuron_rates")
OwnCompetition = Callable[[Tensor], Tensor]  # u -> y of its shape


class Plasticity(NamedTuple):
    """How a layer learns, checked; see ``HebbianConv2d``."""

    rule: str | Rule
    normalise: str
    decay: float
    unit_norm: bool
    conscience: float
    momentum: float
    own: OwnCompetition | None = None

    @classmethod
    def of(
        cls,
        rule: str | Rule | OwnCompetition,
        normalise: str | None,
        decay: float,
        unit_norm: bool,
        conscience: float,
        momentum: float,
        update: str,
        wta: str,
    ) -> Plasticity:
        """Raises TypeError or ValueError, naming the argument."""
        own, rule = rule if callable(rule) else None, _in_words(rule)
        if own is not None and normalise is None:
            normalise = RULE.normalise
        named = Rule.of(rule, normalise, decay)
        for name in NAMES:
            if getattr(named, name) is not None:
                raise ValueError(f"rule must come without its {name}, which the layer keeps")
        unit_norm, conscience = bool(plain(unit_norm)), at_least_zero("conscience", conscience)
        momentum = positive("momentum", momentum)
        if momentum > 1:
            raise ValueError(f"momentum must be at most 1; got {momentum}")
        if unit_norm and update == "grad":
            raise ValueError(
                "unit_norm is for update='in_place'; the steps of update='grad' are the optimizer's"
            )
        if conscience and (named.statistic != "activity" or wta not in ("soft", "hard")):
            raise ValueError(
                "conscience must be 0 but for 'instar' and 'kmeans' with wta='soft' or 'hard', "
                f"whose wins are counted; got {conscience} for {rule=}, {wta=}"
            )
        return cls(rule, named.normalise, named.decay, unit_norm, conscience, momentum, own)


class Plastic(HebbianLayer):
    """A layer whose rule is chosen: state in buffers, a target and a modulator for every batch.

    ``HebbianConv2d`` says what its attributes mean.
    """

    rule: str | Rule
    normalise: str
    decay: float
    unit_norm: bool
    conscience: float
    momentum: float
    own: OwnCompetition | None
    threshold: Tensor | None
    counts: Tensor | None
    lateral: Tensor | None
    shares: Tensor | None
    neuron_rates: Tensor | None

    def begin(self, plasticity: Plasticity, neuron_rates: Tensor | None, neurons: int) -> None:
        """Take on a rule; of groups of so many ``neurons``."""
        for name, value in plasticity._asdict().items():
            setattr(self, name, value)
        if self.own is not None:
            if self.backend not in ("auto", "reference"):
                raise ValueError(
                    f"backend={self.backend!r}: no kernel can call a competition that is written "
                    "in Python. Use backend='auto' or 'reference', which is slower"
                )
            self.backend = "reference"
        rule, total = self.named_rule(), self.weight.shape[0]
        sums = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        sizes = {
            "threshold": (total,) if rule.activity == "threshold" else None,
            "counts": (total,) if rule.normalise == "count" else None,
            "lateral": (total, neurons) if rule.settles else None,
            "shares": (total,) if self.conscience else None,
        }
        state: dict[str, Tensor | None] = {
            name: None if size is None else self.weight.new_empty(size, dtype=sums)
            for name, size in sizes.items()
        }
        if neuron_rates is not None:
            if not isinstance(neuron_rates, Tensor) or tuple(neuron_rates.shape) != (total,):
                came = getattr(neuron_rates, "shape", type(neuron_rates).__name__)
                raise ValueError(f"neuron_rates must be a tensor [{total}]; got {came}")
            neuron_rates = neuron_rates.detach().to(self.weight.device, sums, copy=True)
        state["neuron_rates"] = neuron_rates
        # torch.export counts those that are None, too: they come last.
        for name in sorted(state, key=lambda name: state[name] is None):
            self.register_buffer(name, state[name])
        self.reset_state()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """As every layer's; the state of the rule starts anew, too.

        ``generator`` is for random initialisations.
        """
        super().reset_parameters(generator)
        if "shares" in self._buffers:
            self.reset_state()

    @torch.no_grad()
    def reset_state(self) -> None:
        """Thresholds, counts and lateral weights at 0, all shares of wins alike."""
        for buffer in (self.threshold, self.counts, self.lateral):
            if buffer is not None:
                buffer.zero_()
        if self.shares is not None:
            self.shares.fill_(1 / self.group_size)

    @property
    def group_size(self) -> int:
        """How many neurons compete with each other."""
        return self.weight.shape[0] // getattr(self, "groups", 1)

    def named_rule(self) -> Rule:
        """The rule, without its tensors."""
        return Rule.of(self.rule, self.normalise, self.decay)

    def handicap(self) -> Tensor | None:
        """What every neuron's u is less by when it competes, ``[K]``: its conscience."""
        if not self.conscience:
            return None
        return self.conscience * (self.group_size * self.shares - 1)

    def options(self) -> dict[str, Any]:
        threshold = self.handicap() if self.conscience else self.threshold
        state = {"threshold": threshold, "counts": self.counts, "lateral": self.lateral}
        own = {"rule": self.rule, "normalise": self.normalise, "decay": self.decay}
        return {**super().options(), **own, **state}

    def step_options(self) -> dict[str, Any]:
        return {"neuron_rates": self.neuron_rates, "unit_norm": self.unit_norm}

    def forward(
        self, x: Tensor, *, target: Tensor | None = None, modulator: Tensor | None = None
    ) -> Tensor:
        """The pre-activations u of ``x``, from the weights as they were before this call.

        As every Hebbian layer's. In training mode ``target`` and ``modulator``, as in
        ``functional.hebbian_conv2d``, say what this batch is to teach; elsewhere they are checked
        and do nothing. The state of the rule moves with every update.
        """
        if self.own is not None and not recorded(x) and self.learns:
            target = self._own_activity(x, target)
        given = {} if recorded(x) else {"target": target, "modulator": modulator}
        return self._learn(x, {name: t for name, t in given.items() if t is not None})

    @torch.no_grad()
    def hebbian_update(
        self, x: Tensor, *, target: Tensor | None = None, modulator: Tensor | None = None
    ) -> HebbianOutput:
        """u of ``x`` and the update that it asks for with this ``target`` and ``modulator``, in any
        mode; changes nothing."""
        if self.own is not None:
            target = self._own_activity(x, target)
        return self._hebbian(x, *self.detached(), target=target, modulator=modulator)

    def _check_given(self, x: Tensor, u: Tensor, given: dict[str, Any]) -> None:
        if not given:
            return
        self._check_own(given.get("target"))
        neurons, rows = self.weight.shape[0], u if u.dim() == 4 else u.unsqueeze(0)
        size = (u.numel() // neurons, neurons) if self.weight.dim() == 2 else tuple(rows.shape)
        check_given(self.named_rule(), Place(x, self.weight, size), given)

    def _check_own(self, target: Tensor | None) -> None:
        if self.own is not None and target is not None:
            raise ValueError("target must be None where rule is a competition of one's own")

    @torch.no_grad()
    def _own_activity(self, x: Tensor, target: Tensor | None) -> Tensor:
        """What the layer's own competition makes of u. Raises TypeError or ValueError for what is
        no y of its shape, and for a ``target`` beside it."""
        self._check_own(target)
        with autocast_disabled(x.device):
            u = self._product(x.to(self.weight.dtype), *self.detached())
        y = self.own(u)
        if not isinstance(y, Tensor):
            raise TypeError(f"rule must return y, a tensor like u; got {type(y).__name__}")
        if y.shape != u.shape:
            raise ValueError(
                f"rule must return y of the shape of u, {tuple(u.shape)}; got {tuple(y.shape)}"
            )
        return y

    def assign(self, delta_w: Tensor, delta_b: Tensor | None) -> None:
        """As every layer's: ``delta_w`` and ``delta_b`` become gradients, times the neurons' own
        rates."""
        if self.neuron_rates is not None:
            rates = self.neuron_rates.to(delta_w.dtype)
            delta_w = delta_w * rates.view(-1, *[1] * (delta_w.dim() - 1))
            delta_b = None if delta_b is None else delta_b * rates
        super().assign(delta_w, delta_b)

    def learning_rates(self) -> Tensor:
        """The rate of every neuron at the next in-place step, ``[K]``, its own factor included.

        Needs ``lr`` or ``schedule``.
        """
        rates = super().learning_rates()
        return rates if self.neuron_rates is None else rates * self.neuron_rates

    @torch.no_grad()
    def learned(self, out: NamedTuple, x: Tensor) -> None:
        """The state of the rule follows ``out.statistic`` of a batch ``x``."""
        found = out.statistic
        if found is None or (not torch.compiler.is_compiling() and recomputing()):
            return
        if self.counts is not None:
            self.counts.add_(found)
        if self.threshold is not None:
            positions = self._positions(x)
            own = found / positions.clamp(min=1)
            self.threshold.lerp_(torch.where(positions > 0, own, self.threshold), self.momentum)
        if self.lateral is not None:
            own = torch.arange(len(found), device=found.device) % self.group_size
            square = found.gather(1, own[:, None])
            most = square.view(-1, self.group_size).amax(dim=1) + EPSILON
            step = (found - square * self.lateral) / most.repeat_interleave(self.group_size)[
                :, None
            ]
            self.lateral.add_(self.momentum * step.scatter(1, own[:, None], 0.0))
        if self.shares is not None:
            wins = found.view(-1, self.group_size)
            total = wins.sum(dim=1, keepdim=True)
            before = self.shares.view_as(wins)
            shares = torch.where(total > 0, wins / (total + EPSILON), before)
            self.shares.lerp_(shares.flatten(), self.momentum)

    def _positions(self, x: Tensor) -> Tensor:
        """The number of positions of the whole batch."""
        own = self.threshold.new_full((), self.positions(x))
        return over(self.processes.group)(own) if self.processes else own

    def positions(self, x: Tensor) -> int:
        """How many positions u of ``x`` has, over all samples."""
        raise NotImplementedError

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        """State stays in float32 where weights become 16-bit: counts would stop growing."""
        before = {name: self._buffers.get(name) for name in STATE}
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            now = self._buffers.get(name)
            if now is not None and now.dtype in SHORT:
                self._buffers[name] = buffer.to(now.device, torch.float32)
        return self

    def _options(self) -> str:
        named = self.rule if isinstance(self.rule, str) else self.rule.activity
        named = getattr(self.own, "__name__", type(self.own).__name__) if self.own else named
        parts = [f"rule={named!r}", f"normalise={self.normalise!r}"]
        parts += [f"decay={self.decay}"] if self.decay else []
        parts += ["unit_norm=True"] if self.unit_norm else []
        parts += [f"conscience={self.conscience}"] if self.conscience else []
        return f"{', '.join(parts)}, {super()._options()}"


def usual_power(rule: str | Rule | OwnCompetition, lr_power: float | None) -> float:
    """The exponent of the rate that is usual for a rule, if none is given."""
    if lr_power is not None:
        return lr_power
    return usual_lr_power("softhebb" if callable(rule) else rule)


def of_rule(rule: str | Rule | OwnCompetition, *options: Any) -> dict[str, Any]:
    """The options of ``Competition.of`` that a layer of SoftHebb takes."""
    c = Competition.of(_in_words(rule), *options)
    return {"wta": c.wta, "delta": c.delta, "rank": c.rank}


def _in_words(rule: str | Rule | OwnCompetition) -> str | Rule:
    """The rule, of a competition of one's own the one that takes y as it is given."""
    return "teacher" if callable(rule) else rule
