from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from softhebb_fast import backends
from softhebb_fast.bench import gate, providers
from softhebb_fast.bench.cases import registry
from softhebb_fast.bench.providers import PROVIDERS, choose
from softhebb_fast.bench.worker import complaint
from tests.test_bench.tiny import PERCEPTRON, case
from tests.test_graphs import Rehearsal

CPU = torch.device("cpu")
CHECKED = ["published", "tuned", "cpp"]


def usable(name: str) -> bool:
    backend = PROVIDERS[name].backend
    return backend is None or backends.why_not(backend, CPU) is None


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("what", ["layer", "step", "probe", "perceptron"])
def test_providers_do_what_the_reference_does(name, what):
    if not usable(name):
        pytest.skip("not built here")
    tiny = case("step", net=PERCEPTRON) if what == "perceptron" else case(what)
    with torch.set_grad_enabled(what == "probe"):
        assert complaint(tiny, PROVIDERS[name], CPU) is None


def test_a_step_from_a_graph_begins_where_any_other_does(monkeypatch):
    """The steps before the capture leave no trace; on the CPU a replay is the step again."""
    own = providers._own
    monkeypatch.setattr(providers, "_own", lambda backend: own("reference"))
    monkeypatch.setattr(providers, "Recorder", lambda device: Rehearsal())
    with torch.no_grad():
        assert complaint(case("step"), PROVIDERS["triton-graph"], CPU) is None


def wrong_sign(tiny, given):
    def call():
        u = PROVIDERS["tuned"].make(tiny, given)()
        given.weights[0].neg_()
        return u

    return call


def wrong_output(tiny, given):
    return lambda: [PROVIDERS["tuned"].make(tiny, given)()[0] * 1.01]


def not_a_number(tiny, given):
    return lambda: [PROVIDERS["tuned"].make(tiny, given)()[0] * float("nan")]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_sign, "step 1 is off by"),
        (wrong_output, r"output 1 is off by 1\.0e-02"),
        (not_a_number, "output 1 is off by nan"),
    ],
)
def test_a_provider_that_is_wrong_is_told(make, words):
    provider = replace(PROVIDERS["tuned"], makes={"layer": make})
    with torch.no_grad():
        said = complaint(case("layer"), provider, CPU)
    assert said is not None
    assert re.match(words, said)


def test_no_step_at_all_is_wrong():
    provider = replace(
        PROVIDERS["tuned"],
        makes={"layer": lambda tiny, given: lambda: gate.expected(tiny, given)[0]},
    )
    with torch.no_grad():
        assert complaint(case("layer"), provider, CPU) == (
            "step 1 is off by 1.0e+00 of its largest, above 0.005"
        )


def test_large_cases_are_checked_on_fewer_samples():
    large = registry()["imagenet/layer4/b1000"]
    small = gate.checked(large)
    assert small.flops <= gate.MOST_FLOPS < 2.5 * small.flops
    assert gate.checked(registry()["cifar10/layer1/b10"]).batch == 10
    assert gate.checked(registry()["cifar10/probe/b64"]).dropout == 0


def test_bounds_run():
    for name in ("products", "library"):
        for kind in ("layer", "step"):
            tiny = case(kind)
            from softhebb_fast.bench.inputs import inputs

            given = inputs(tiny, CPU)
            before = given.weights[0].clone()
            assert PROVIDERS[name].make(tiny, given)() == []
            assert torch.equal(given.weights[0], before)


def test_who_serves_what():
    why = PROVIDERS["triton"].why_not(case("layer"), CPU)
    assert why == "is for cuda tensors"
    assert PROVIDERS["products"].why_not(case("probe"), CPU) == "has no probe"
    assert PROVIDERS["published"].why_not(case("probe"), CPU) is None
    assert [p.name for p in choose(["cpp", "tuned"])] == ["cpp", "tuned"]
    assert len(choose(None)) == len(PROVIDERS)
    with pytest.raises(ValueError, match=r"providers must be among published, .*; got 'cuda'"):
        choose(["cuda"])
