"""Schedules and halvings, exactly: in fractions and in decimals of many digits."""

from __future__ import annotations

import sys
from decimal import Decimal, localcontext
from fractions import Fraction

import torch
from hypothesis import strategies as st

from benchmarks.fire.calls.arguments import Call
from benchmarks.fire.calls.balls import FEW, Ball, Sums
from softhebb_fast import optim
from softhebb_fast.optim.schedules import HALVINGS

DIGITS = 700  # 1 - exp(-1e-300) has 300 zeros
RATES = (0.1, -0.1, 1e-3, 0.0, 1e200, 1e-200, 3)
STEPS = (0, 1, 2, 7, 99, 100, 101, 10**6, 10**15)
TOTALS = (100, 1, 7, 2.5, 10**9, 1e300)
FACTORS = (0.1, 0.5, 0.0, -2.0, 1.0, 1e-200, 1e100, 1e200, 10)
EPOCHS = (0, 1, 19, 20, 49, 50, 90, 100, 299, 10**6)


@st.composite
def schedules(draw: st.DrawFn, name: str) -> Call:
    options = {"lr": draw(st.sampled_from(RATES)), "step": draw(st.sampled_from(STEPS))}
    spoilt: tuple[str, ...] = ()
    if name.endswith("Decay"):
        options["total_steps"] = draw(st.sampled_from(TOTALS))
    if name == "ExponentialDecay":
        options["speed"] = draw(st.sampled_from([7.0, 0.4, 1e-8, 1e-20, 1e-300, 1000.0, 1e300]))
        options["divisor"] = draw(st.sampled_from([96.0, 100, 1.0, 0.5, 1e300, 1e-300]))
    if name == "Milestones":
        steps = tuple(draw(st.lists(st.sampled_from(STEPS), max_size=4)))
        factor = draw(st.sampled_from(FACTORS))
        options |= {"milestones": steps, "factor": factor}
        options["warm_up"] = draw(st.sampled_from([0, 1, 5, 10**6]))
        if abs(Fraction(factor)) ** len(steps) > Fraction(sys.float_info.max):
            spoilt = ("factor",)
    return Call(name, "torch", {}, options, spoilt)


def run_schedule(call: Call, tensors: dict) -> dict:
    own = dict(call.options)
    step = own.pop("step")
    return {"out": getattr(optim, call.name)(**own)(step)}


def judge_schedule(call: Call, tensors: dict) -> dict[str, Ball]:
    own = dict(call.options)
    lr, step = Fraction(own["lr"]), own["step"]
    share = Fraction(step) / Fraction(own.get("total_steps", 1))
    if call.name == "Constant":
        return {"out": near(lr, Fraction(0))}
    if call.name == "LinearDecay":
        return {"out": near(lr * max(Fraction(0), 1 - share), lr)}
    if call.name == "ExponentialDecay":
        way, divisor = behind(Fraction(own["speed"]), share), Fraction(own["divisor"])
        largest = max(1, way, way / divisor)
        found = near(lr * (1 - way + way / divisor), abs(lr) * largest)
        return {"out": found if largest <= sys.float_info.max else found._replace(rad=WILD)}
    passed = sum(step >= milestone for milestone in own["milestones"])
    warm = min(Fraction(1), Fraction(step + 1, max(own["warm_up"], 1)))
    power = Fraction(own["factor"]) ** passed
    rate = lr * power * warm
    lost = abs(lr * warm) * Fraction(sys.float_info.min) if passed else Fraction(0)
    found = near(rate, rate, lost)
    return {"out": found if abs(lr * power) <= sys.float_info.max else found._replace(rad=WILD)}


WILD = torch.tensor(torch.inf, dtype=torch.float64)


def behind(speed: Fraction, share: Fraction) -> Fraction:
    """``(1 - exp(-speed share)) / (1 - exp(-speed))``."""
    with localcontext(prec=DIGITS):
        done = [Decimal(1) - exponential(-speed * x) for x in (share, Fraction(1))]
    return Fraction(done[0]) / Fraction(done[1])


def exponential(power: Fraction) -> Decimal:
    if power < -10_000:  # less than any float
        return Decimal(0)
    return (Decimal(power.numerator) / Decimal(power.denominator)).exp()


def near(value: Fraction, largest: Fraction, lost: Fraction = Fraction(0)) -> Ball:
    """Within a few roundings of numbers up to ``largest``, and ``lost`` by underflow."""
    sums = Sums.of(torch.float64)
    top = Fraction(sys.float_info.max)
    if max(abs(value), abs(largest)) * 2 > top:
        return Ball(torch.zeros((), dtype=torch.float64), WILD, sums)
    rad = FEW * abs(float(largest)) * sys.float_info.epsilon / 2 + float(lost)
    rad += sys.float_info.min * sys.float_info.epsilon * bool(largest)
    return Ball(*(torch.tensor(float(v), dtype=torch.float64) for v in (value, rad)), sums)


def shares_of(epochs: int, shares: tuple[float, ...]) -> list[int]:
    """Whole parts of the products as float64 rounds them."""
    return [int(float(Fraction(epochs) * Fraction(share))) for share in shares]


@st.composite
def epochs(draw: st.DrawFn, name: str) -> Call:
    if name == "halving_epochs":
        return Call(name, "torch", {}, {"epochs": draw(st.sampled_from(EPOCHS))})
    total = draw(st.sampled_from(EPOCHS[1:8]))
    options = {"nb_epochs": total, "lr": draw(st.sampled_from([0.1, 1e-3, 1.0]))}
    return Call(name, "torch", {}, options | {"step": draw(st.integers(0, total))})


def run_epochs(call: Call, tensors: dict) -> dict:
    if call.name == "halving_epochs":
        return {"out": torch.tensor(optim.halving_epochs(**call.options))}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=call.options["lr"])
    scheduler = optim.CustomStepLR(optimizer, call.options["nb_epochs"])
    for _ in range(call.options["step"]):
        optimizer.step()
        scheduler.step()
    return {"out": optimizer.param_groups[0]["lr"]}


def judge_epochs(call: Call, tensors: dict) -> dict[str, Ball]:
    if call.name == "halving_epochs":
        total = call.options["epochs"]
        shares = () if total < 20 else (0.5, 0.75) if total < 50 else HALVINGS
        mid = torch.tensor(shares_of(total, shares), dtype=torch.float64)
        return {"out": Ball(mid, torch.zeros_like(mid), Sums.of(torch.float64))}
    halvings = set(shares_of(call.options["nb_epochs"], HALVINGS))
    passed = sum(call.options["step"] >= epoch for epoch in halvings)
    return {"out": near(Fraction(call.options["lr"]) / 2**passed, Fraction(0))}
