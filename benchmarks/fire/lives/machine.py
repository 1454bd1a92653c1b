"""The steps that a module may take in its life, and what is known of it after each."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from typing import Any

import hypothesis
import torch
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor, nn

from benchmarks.fire.lives import moves
from benchmarks.fire.lives.plans import CHANGES, Plan, changeable, layers, plans, put
from benchmarks.fire.lives.twins import CONTEXTS, Listener, Outcome, compare, keep, lived, same
from softhebb_fast import synchronise

FAULTS = ("another than a fresh one",)
COLUMNS = ("module", "rule", "times", "steps", "compared", *FAULTS, "seed", "commit", "torch")
STEPS = 16  # of a life at most
OFTEN = 3  # after so many steps a batch follows in any case
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SEEDS = st.integers(0, 99)
TALLY: dict[tuple[str, str], Counter[str]] = {}


class Lives(RuleBasedStateMachine):
    """One module, and all that is known of it without looking at it.

    Attributes:
        plan: what a fresh one is made from.
        module: what lives; ``call`` is what is called, the module or what wraps it.
        state: what its ``state_dict`` must be.
        modes, learning: of its parts the modes, of its parameters whether they learn.
        left: modules that were left behind, and their states.
        wraps: how often it may be compiled, exported or distributed; each takes a second.
    """

    counting = True  # until the first fault: it is lived again and again, to shrink it

    @initialize(plan=plans(), seed=SEEDS, wraps=st.sampled_from([0, 0, 0, 1]))
    def begin(self, plan: Plan, seed: int, wraps: int) -> None:
        torch.manual_seed(seed)
        self.count = TALLY.setdefault(plan.names, Counter()) if self.counting else Counter()
        self.count["times"] += 1
        self.steps, self.wrapped, self.wraps = 0, 0, wraps
        self.left: list[tuple[nn.Module, dict[str, Tensor]]] = []
        self._is(plan, plan.fresh())

    def _is(self, plan: Plan, module: nn.Module, **known: Any) -> None:
        """Another module lives on."""
        self.plan, self.module, self.call = plan, module, module
        self.dtype = known.get("dtype", torch.float32)
        self.state = known.get("state") or keep(module)
        self.modes = known.get("modes") or [True] * len(list(module.modules()))
        learning = {name: p.requires_grad for name, p in plan.fresh().named_parameters()}
        self.learning = known.get("learning") or learning
        self.told = known.get("told", set())
        self.channels_last = known.get("channels_last", False)
        self.hooked = self.summed = self.compiled = False

    def _goes_on(self, copy: nn.Module, **lost: bool) -> None:
        """A copy lives on, the original is left behind."""
        self.left = [*self.left[-1:], (self.module, dict(self.state))]
        self.module, self.call, self.compiled = copy, copy, False
        for name, value in lost.items():
            setattr(self, name, value)

    def _twin(self) -> nn.Module:
        """A fresh module of the same weights, buffers and options."""
        twin = self.plan.fresh().to(self.dtype)
        if self.channels_last:
            twin.to(memory_format=torch.channels_last)
        twin.load_state_dict(self.state)
        for part, mode in zip(twin.modules(), self.modes, strict=True):
            part.training = mode
        for name, parameter in twin.named_parameters():
            parameter.requires_grad_(self.learning[name])
        if self.summed:
            synchronise(twin)
        if self.hooked:
            for layer in layers(twin):
                layer.register_forward_hook(Listener())
        return twin

    @rule(
        seed=SEEDS,
        context=st.sampled_from(CONTEXTS),
        cleared=st.booleans(),
        optimised=st.booleans(),
        channels_last=st.booleans(),
    )
    def batch(self, seed, context, cleared, optimised, channels_last) -> None:
        """One forward, which learns or does not."""
        x, given = self.plan.batch(seed, self.dtype)
        if channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        twin = self._twin()
        for parameter, other in zip(self.module.parameters(), twin.parameters(), strict=True):
            if cleared:
                parameter.grad = None
            other.grad = None if parameter.grad is None else parameter.grad.clone()
        how = (context, optimised, seed)
        calls = [listener.calls for listener in moves.listeners(self.module)]
        expected = lived(twin, twin, x, given, *how)
        found = lived(self.module, self.call, x, given, *how)
        compare(found, expected, moves.NEAR[self.dtype] if self.compiled else 0)
        self._kept_its_word(found, expected, calls)
        self.state = found.state
        self.count["compared"] += 1

    def _kept_its_word(self, found: Outcome, expected: Outcome, calls: list[int]) -> None:
        frozen = [name for name, learns in self.learning.items() if not learns]
        if not any(self.modes):
            frozen = list(self.state)
        moved = [name for name in frozen if not same(found.state[name], self.state[name])]
        assert not moved or found.optimised, f"{moved} moved without learning"
        if not found.error:
            now = [listener.calls for listener in moves.listeners(self.module)]
            assert now == [n + 1 for n in calls], f"hooks heard {calls}, then {now}"
        if not self.compiled:
            assert self._cause() in self.told or found.told or not expected.told, (
                f"a fresh one warns of {self.dtype}"
            )
        if found.told:
            self.told.add(self._cause())

    def _cause(self) -> tuple:
        """What a layer warns of once."""
        options = self.plan.options
        return self.dtype, options.get("update"), options.get("rounding")

    @rule(seed=SEEDS)
    def learn(self, seed: int) -> None:
        self.set_mode(True)
        self.freeze(True)
        self.batch(seed, "plain", True, False, False)

    @rule(seed=SEEDS)
    def evaluate(self, seed: int) -> None:
        self.set_mode(False)
        self.batch(seed, "plain", True, False, False)

    @rule(mode=st.booleans())
    def set_mode(self, mode: bool) -> None:
        self.module.train(mode)
        self.modes = [mode] * len(self.modes)

    @precondition(lambda self: len(self.modes) > 1)
    @rule(mode=st.booleans(), place=SEEDS)
    def set_mode_of_a_part(self, mode: bool, place: int) -> None:
        parts = list(self.module.modules())
        part = parts[place % len(parts)]
        part.train(mode)
        inside = {id(each) for each in part.modules()}
        self.modes = [
            mode if id(each) in inside else now for each, now in zip(parts, self.modes, strict=True)
        ]

    @rule(learns=st.booleans())
    def freeze(self, learns: bool) -> None:
        self.module.requires_grad_(learns)
        self.learning = dict.fromkeys(self.learning, learns)

    @rule(learns=st.booleans(), place=SEEDS)
    def freeze_a_parameter(self, learns: bool, place: int) -> None:
        name = list(self.learning)[place % len(self.learning)]
        self.module.get_parameter(name).requires_grad_(learns)
        self.learning[name] = learns

    @rule(dtype=st.sampled_from(DTYPES), back=st.booleans())
    def cast(self, dtype: torch.dtype, back: bool) -> None:
        for to in (dtype, self.dtype) if back else (dtype,):
            self.module.to(to)
            self.state = moves.cast(self.state, to)
            self.dtype = to

    @rule(how=st.sampled_from(sorted(moves.COPIES)))
    def copy(self, how: str) -> None:
        summed = self.summed and how == "deepcopy"
        self._goes_on(moves.COPIES[how](self.module), summed=summed)

    @rule(change=CHANGES, seed=SEEDS, assign=st.booleans(), dtype=st.sampled_from(DTYPES))
    def load_into_another(self, change, seed, assign, dtype) -> None:
        """The state goes to a module that was made differently, which lives on."""
        plan = self.plan.changed(change) if changeable(self.plan, change) else self.plan
        plan = plan or self.plan
        torch.manual_seed(seed)
        other = plan.fresh().to(dtype)
        began = lived(other, other, *plan.batch(seed, dtype), "plain", False, seed)
        assign = assign and plan.kind != "pair"  # torch assigns each tensor by itself
        own, made_in = other.state_dict(), dtype
        other.load_state_dict(
            self.module.state_dict() if not assign else keep(self.module), assign=assign
        )
        dtype = self.dtype if assign else dtype
        state = {n: v if assign else v.to(own[n].dtype) for n, v in self.state.items()}
        self.left = [*self.left[-1:], (self.module, self.state)]
        self._is(plan, other, dtype=dtype, state=state, channels_last=assign and self.channels_last)
        if began.told:
            self.told.add((made_in, plan.options.get("update"), plan.options.get("rounding")))

    @rule(change=CHANGES)
    def change(self, change: dict[str, Any]) -> None:
        plan = self.plan.changed(change) if changeable(self.plan, change) else None
        if plan is not None:
            put(self.module, change)
            self.plan = plan

    @precondition(lambda self: self.plan.options.get("neuron_rates"))
    @rule(mask=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4))
    def mask_neurons(self, mask: list[float]) -> None:
        for layer in layers(self.module):
            layer.neuron_rates.copy_(torch.tensor(mask))
        for name, value in self.state.items():
            if name.endswith("neuron_rates"):
                self.state[name] = torch.tensor(mask, dtype=value.dtype)

    @precondition(lambda self: self.plan.kind in ("layer", "network"))
    @rule(seed=SEEDS)
    def reset(self, seed: int) -> None:
        twin = self._twin()
        for module in (self.module, twin):
            generator = torch.Generator().manual_seed(seed)
            for layer in layers(module):
                layer.reset_parameters(generator)
        self.state = keep(twin)

    @precondition(lambda self: not self.hooked)
    @rule()
    def listen(self) -> None:
        for layer in layers(self.module):
            layer.register_forward_hook(Listener())
        self.hooked = True

    @precondition(lambda self: "Conv2d" in self.plan.layer)
    @rule()
    def set_layout(self) -> None:
        self.module.to(memory_format=torch.channels_last)
        self.channels_last = True

    @rule(through=st.sampled_from(["meta", "fake cuda"]), seed=SEEDS)
    def move(self, through: str, seed: int) -> None:
        """To a device without values, and back with the state."""
        x, given = self.plan.batch(seed, self.dtype)
        shape = tuple(moves.evaluated(self._twin(), x).shape)
        if through == "fake cuda" or self.plan.kind == "pair":  # torch parts a pair on meta
            moves.on_fake_cuda(self.module, x, given, shape)
            return
        there = moves.on_meta(self.module, x, given, shape).to_empty(device="cpu")
        there.load_state_dict(self.module.state_dict())
        self._goes_on(there)

    @precondition(lambda self: moves.convertible(self.plan))
    @rule()
    def convert(self) -> None:
        """A plain layer with these weights becomes one of this package."""
        frozen = not self.learning["weight"]
        module = moves.converted(self.plan, self.state, self.dtype, self.modes[0], frozen)
        learning = {name: name == "weight" and not frozen for name in self.learning}
        self.left = [*self.left[-1:], (self.module, self.state)]
        known = {"dtype": self.dtype, "modes": list(self.modes), "learning": learning}
        state = keep(self._reset_state())
        self._is(self.plan, module, state=state, **known)

    def _reset_state(self) -> nn.Module:
        """A fresh module with this weight and bias, and the state in which a rule begins."""
        fresh = self.plan.fresh().to(self.dtype)
        own = {n: v for n, v in self.state.items() if n in ("weight", "bias")}
        fresh.load_state_dict(own, strict=False)
        return fresh

    @rule(how=st.sampled_from(["jit", "fx"]), seed=SEEDS)
    def trace(self, how: str, seed: int) -> None:
        if how == "jit" or self.plan.kind != "pair":  # fx gives its forward more than it takes
            self._record(how, seed)

    @precondition(lambda self: self.wrapped < self.wraps)
    @rule(seed=SEEDS)
    def export(self, seed: int) -> None:
        self.wrapped += 1
        self._record("export", seed)

    def _record(self, how: str, seed: int) -> None:
        x, _ = self.plan.batch(seed, self.dtype)
        if any(self.modes):
            learns = all(self.modes) and all(self.learning.values())
            if learns:
                moves.refused(copy.deepcopy(self.module), how, x)
            return
        moves.recorded(self.module, how, x)

    @precondition(lambda self: self.wrapped < self.wraps)
    @rule()
    def compile(self) -> None:
        self.wrapped += 1
        self.call, self.compiled = torch.compile(self.module, backend="eager"), True

    @precondition(lambda self: self.wrapped < self.wraps and any(self.learning.values()))
    @rule(summed=st.booleans())
    def distribute(self, summed: bool) -> None:
        self.wrapped += 1
        moves.begin_processes()
        if summed:
            synchronise(self.module)
            self.summed = True
        self.call, self.compiled = moves.distributed(self.module), False

    @precondition(lambda self: self.call is not self.module)
    @rule()
    def unwrap(self) -> None:
        self.call, self.compiled = self.module, False

    @invariant()
    def is_as_known(self) -> None:
        if not hasattr(self, "plan"):
            return
        self.count["steps"] += 1
        self.steps += 1
        if self.steps % OFTEN == 0:
            self.batch(self.steps, "plain", True, False, False)
        for module, state in ((self.module, self.state), *self.left):
            found = module.state_dict()
            assert list(found) == list(state), f"state is {list(found)}, not {list(state)}"
            moved = [name for name in state if not same(found[name], state[name])]
            assert not moved, f"{moved} changed by itself"
        learning = {name: p.requires_grad for name, p in self.module.named_parameters()}
        assert learning == self.learning, f"what learns is {learning}"
        assert [part.training for part in self.module.modules()] == self.modes
        if self.plan.kind == "pair":
            assert self.module.first.weight is self.module.second.weight

    def teardown(self) -> None:
        if not hasattr(self, "plan"):
            return
        error = sys.exc_info()[1]
        try:
            for mode in (False, True) if error is None else ():
                self.set_mode(mode)
                self.batch(1, "plain", True, False, False)
                self.is_as_known()
        except Exception as found:
            error = found
            raise
        finally:
            if isinstance(error, Exception) and not isinstance(error, HypothesisException):
                self.count[FAULTS[0]] += 1
                Lives.counting = False
            if self.wrapped:
                moves.end_wrapping()


def live(times: int, seed: int) -> Exception | None:
    """So many lives; the first fault, shrunk, with the steps that lead to it."""
    TALLY.clear()
    Lives.counting = True
    settings = hypothesis.settings(
        max_examples=times,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        run_state_machine_as_test(hypothesis.seed(seed)(Lives), settings=settings)
    except Exception as error:
        return error
    return None
