from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from softhebb_fast import backends, precision
from softhebb_fast.bench import gate, providers
from softhebb_fast.bench.cases import registry
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.providers import PROVIDERS, choose
from softhebb_fast.bench.worker import complaint
from tests.bench.tiny import PERCEPTRON, case
from tests.training.test_steps import Rehearsal

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


@pytest.mark.parametrize("what", ["layer", "step", "perceptron"])
def test_tuned_code_is_right_in_either_layout(what):
    tiny = case("step", net=PERCEPTRON) if what == "perceptron" else case(what)
    provider = replace(PROVIDERS["tuned"], layout=torch.channels_last)
    with torch.no_grad():
        assert complaint(tiny, provider, CPU) is None


@pytest.mark.parametrize("kind", ["layer", "step"])
@pytest.mark.parametrize("name", ["published", "tuned"])
def test_the_gate_lets_factors_of_tf32_pass_and_no_shorter_ones(name, kind, monkeypatch):
    tiny, provider = case(kind), PROVIDERS[f"{name}-tf32"]
    product, backward = F.conv2d, torch.ops.aten.convolution_backward

    def said(bits: int) -> str | None:
        def make(tiny, given):
            def call():
                with monkeypatch.context() as patch:
                    patch.setattr(
                        F, "conv2d", lambda x, w: product(rounded(x, bits), rounded(w, bits))
                    )
                    patch.setattr(
                        torch.ops.aten,
                        "convolution_backward",
                        lambda y, x, *rest: backward(rounded(y, bits), rounded(x, bits), *rest),
                    )
                    return PROVIDERS[provider.name].make(tiny, given)()

            return call

        return complaint(tiny, replace(provider, makes={kind: make}), CPU)

    with torch.no_grad():
        assert said(11) is None
        assert "output 1 is off" in said(6)


def rounded(x: torch.Tensor, bits: int) -> torch.Tensor:
    """To so many significant bits, the leading one among them."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


@pytest.mark.parametrize("kind", ["layer", "step"])
def test_a_call_from_a_graph_begins_where_any_other_does(kind, monkeypatch):
    """The calls before the capture leave no trace; on the CPU a replay is the call again."""
    monkeypatch.setattr(providers, "GraphCapture", lambda device: Rehearsal())
    makes = {kind: providers._replayed(providers._own("reference")[kind])}
    with torch.no_grad():
        assert complaint(case(kind), replace(PROVIDERS["triton-graph"], makes=makes), CPU) is None


def wrong_sign(tiny, given):
    def call():
        u = PROVIDERS["tuned"].make(tiny, given)()
        given.weights[0].neg_()
        return u

    return call


def wrong_filter(tiny, given):
    """One of them does not learn."""

    def call():
        before = given.weights[0][2].clone()
        u = PROVIDERS["tuned"].make(tiny, given)()
        given.weights[0][2] = before
        return u

    return call


def wrong_output(tiny, given):
    return lambda: [PROVIDERS["tuned"].make(tiny, given)()[0] * 1.01]


def not_a_number(tiny, given):
    return lambda: [PROVIDERS["tuned"].make(tiny, given)()[0] * float("nan")]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_filter, r"step 1 is off by .*; 0\.005 may be"),
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
        makes={"layer": lambda tiny, given: lambda: gate.expected(tiny, given, [given.x])[0]},
    )
    with torch.no_grad():
        assert complaint(case("layer"), provider, CPU) == (
            "step 1 is off by 1.0e+00 of its norm; 0.005 may be"
        )


def test_a_block_is_judged_by_what_the_one_below_gave():
    tiny = case("step")
    with torch.no_grad():
        outputs = PROVIDERS["tuned"].make(tiny, inputs(tiny, CPU))()
        changed = [outputs[0] ** 2, outputs[1]]
        one, other = (gate.expected(tiny, inputs(tiny, CPU), o) for o in (outputs, changed))
    assert [torch.equal(*pair) for pair in zip(one[0], other[0], strict=True)] == [True, False]
    assert [torch.equal(*pair) for pair in zip(one[1], other[1], strict=True)] == [True, False]


def test_large_cases_are_checked_on_fewer_samples():
    large = registry()["imagenet/layer4/b1000"]
    small = gate.checked(large)
    assert small.flops <= gate.MOST_FLOPS < 2.5 * small.flops
    assert gate.checked(registry()["cifar10/layer1/b10"]).batch == 10
    assert gate.checked(registry()["cifar10/probe/b64"]).dropout == 0


def test_bounds_run():
    for name in ("products", "library", "library-tf32"):
        for kind in ("layer", "step"):
            tiny = case(kind)
            given = inputs(tiny, CPU, PROVIDERS[name].layout)
            before = given.weights[0].clone()
            assert PROVIDERS[name].make(tiny, given)() == []
            assert torch.equal(given.weights[0], before)


@pytest.mark.parametrize(
    ("name", "products", "tf32"),
    [
        ("published", "ieee", False),
        ("published-tf32", "tf32", True),
        ("triton", "ieee", False),
        ("triton-graph-tf32", "tf32", True),
        ("cpp-bf16x3", "bf16x3", False),
    ],
)
def test_a_provider_sets_its_precision_whatever_was_set(name, products, tf32, monkeypatch):
    libraries = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [library.allow_tf32 for library in libraries]
    monkeypatch.setenv(precision.VARIABLE, "tf32x3")
    try:
        for library in libraries:
            library.allow_tf32 = not tf32
        PROVIDERS[name].set_precision()
        assert os.environ[precision.VARIABLE] == products
        assert [library.allow_tf32 for library in libraries] == [tf32, tf32]
    finally:
        for library, was in zip(libraries, before, strict=True):
            library.allow_tf32 = was


def test_own_kernels_are_timed_in_the_layout_of_training():
    for name, provider in PROVIDERS.items():
        if name.startswith("triton"):
            given = inputs(case("step"), CPU, provider.layout)
            tensors = [given.x, *given.weights]
            assert not any(t.is_contiguous() for t in tensors)
            assert all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors)
            net = providers.network(case("step"), given, "reference")
            learned = [block.layer.weight for block in net.blocks]
            assert [w.data_ptr() for w in learned] == [w.data_ptr() for w in given.weights]


def test_who_serves_what():
    why = PROVIDERS["triton"].why_not(case("layer"), CPU)
    assert why == "is for cuda tensors"
    assert PROVIDERS["products"].why_not(case("probe"), CPU) == "has no probe"
    assert PROVIDERS["published"].why_not(case("probe"), CPU) is None
    assert [p.name for p in choose(["cpp", "tuned"])] == ["cpp", "tuned"]
    assert len(choose(None)) == len(PROVIDERS)
    with pytest.raises(ValueError, match=r"providers must be among published, .*; got 'cuda'"):
        choose(["cuda"])
