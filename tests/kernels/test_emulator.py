"""The PTX that Triton emits for sm_80 and sm_90a, run in an emulator, against the definition.

Every launch is checked for races in shared memory and for accesses outside its tensors.
"""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.gpu.offline import Launch, launches_go_to
from softhebb_fast.kernels import configs
from softhebb_fast.kernels.sync import POLLS
from tests.by_keyword import conv2d_options, kernels, reference
from tests.kernels.cases import CASES, LINEAR, WIDE, Case
from tests.kernels.in_turn import in_turn
from tests.tolerances import TOLERANCES, assert_close, assert_outputs_close, tolerance

SLOW = pytest.mark.slow
TARGETS = ("sm_80", "sm_90a")
TF32 = TOLERANCES["tf32"]
PASS = {"x": (2, 3, 9, 7), "w": (20, 3, 5, 5)}
RUNS = {
    "one_pass-tf32": ("tf32", Case(**PASS, options={"padding": (2, 2)})),
    "one_pass-bfloat16": ("bfloat16", Case(**PASS, bias=True)),
    "one_pass-hard_anti": (
        "float16",
        Case(w=(20, 1, 3, 3), x=(2, 1, 9, 7), options={"wta": "hard_anti"}),
    ),
    "first-ieee": ("ieee", Case(**PASS, options={"padding": (2, 2)}, bias=True)),
    "tf32": ("tf32", CASES["channels_last"]),
    "tf32-contiguous": ("tf32", Case(w=(136, 3, 3, 3), options={"padding_mode": "zeros"})),
    "tf32x3": ("tf32x3", Case(**WIDE, layout="channels_last", options={"wta": "soft"})),
    "bf16x6": ("bf16x6", Case(**WIDE, layout="channels_last", options={"wta": "soft"})),
    "ieee": ("ieee", Case(**WIDE, layout="channels_last", bias=True)),
    "apart-hard_anti": ("ieee", CASES["hard_anti"]),
    "apart-pre_triangle": ("ieee", CASES["pre_triangle"]),
    "bfloat16": ("bfloat16", Case(**WIDE, layout="channels_last", bias=True)),
    "float16-contiguous": ("float16", CASES["tiles"]),
}
TIED = {name: RUNS[name] for name in ("one_pass-hard_anti", "apart-hard_anti")}
TIED["apart-lanes"] = ("ieee", Case(w=(64, 3, 3, 3), options={"wta": "hard_anti"}))


def tensors(name):
    """x, w and bias of a run, its options, and the precision of its float32 products."""
    precision, case = (RUNS | TIED)[name]
    narrow = "float" in precision
    dtype = getattr(torch, precision) if narrow else torch.float32
    return *case.tensors(dtype), case.conv, "ieee" if narrow else precision


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", RUNS)
def test_conv2d(emulated, name, target, monkeypatch):
    x, w, bias, options, precision = tensors(name)
    if name.startswith("apart"):
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    got, reports = emulated(target, precision, lambda: kernels.conv2d(x, w, bias, **options))
    exact = [None if t is None else t.double() for t in (x, w, bias)]
    want = reference.conv2d(*exact, **options)
    dtype, rough = x.dtype, precision == "tf32"
    assert_close(got.u, want.u, TF32 if rough else tolerance(dtype, "u"))
    if rough:  # what follows from the u at hand
        want = update_from(got.u, *exact, options)
    loose = {torch.float32: TF32 if rough else tolerance(dtype, "delta_w")}
    assert_close(got.delta_w, want.delta_w, loose.get(dtype, 2 * tolerance(dtype, "delta_w")))
    if bias is not None and not rough:
        assert_close(got.delta_b, want.delta_b, 2 * tolerance(dtype, "delta_w"))
    assert [r["races"] for r in reports] == [{}] * len(reports)
    first = ["prepare", "forward"]
    if name.startswith("one_pass"):
        first = ["one_pass"]
    elif name.startswith("apart"):
        first = ["prepare", "forward", "compete", "activity"]
    second = "reduce_splits" if name.startswith("one_pass") else "plasticity"
    assert [r["kernel"] for r in reports] == [*first, second, "apply"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TIED)
def test_exact_ties_go_to_the_first_index(emulated, name, target, monkeypatch):
    """Of neurons that lie beside each other, in other lanes and in other tiles."""
    x, w, _, options, precision = tensors(name)
    if name.startswith("apart"):
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    filters = torch.randint(7, (len(w),), generator=torch.Generator().manual_seed(0))
    w = w[filters].contiguous()
    got, _ = emulated(target, precision, lambda: kernels.conv2d(x, w, None, **options))
    assert torch.equal(got.u, got.u[:, [filters.tolist().index(f) for f in filters]])
    want = update_from(got.u, x.double(), w.double(), None, options)
    rough = 1 if x.dtype == torch.float32 else 2
    assert_close(got.delta_w, want.delta_w, rough * tolerance(x.dtype, "delta_w"))


def update_from(u, x, w, bias, options):
    """The update that the definition makes of these pre-activations."""
    convolution, competition = conv2d_options(**options)
    y = reference.soft_wta(u.double(), competition, groups=convolution.groups)
    x = reference.pad(x, convolution.padding, convolution.padding_mode)
    delta_w = reference.hebbian_update(x, y, u.double(), w, convolution)
    return reference.SoftHebbOutput(u, delta_w, None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rate", [0.3, torch.tensor(0.3, dtype=torch.float64)])
def test_step_in_place(emulated, target, rate):
    x, w, bias, options, _ = tensors("ieee")
    want = w.double().contiguous()
    delta_w = reference.conv2d(x.double(), w.double(), bias.double(), **options).delta_w
    reference.hebbian_step_(want, delta_w, 0.3, 0.5)
    step = {"lr": 0.0, "lr_power": 0.5, "lr_tensor": rate}
    if isinstance(rate, float):
        step |= {"lr": rate, "lr_tensor": None}
    _, reports = emulated(
        target, "ieee", lambda: kernels.conv2d_step_(x, w, bias, **step, **options)
    )
    assert_close(w, want, tolerance(x.dtype, "delta_w"))
    assert [r["races"] for r in reports] == [{}] * 4


@pytest.mark.parametrize("target", TARGETS)
def test_linear(emulated, target):
    torch.manual_seed(0)
    x, w = torch.randn(37, 145), torch.randn(19, 145) / 12
    options = LINEAR
    got, reports = emulated(target, "tf32x3", lambda: kernels.linear(x, w, None, **options))
    assert_outputs_close(got, reference.linear(x.double(), w.double(), None, **options))
    assert [r["races"] for r in reports] == [{}] * 4


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("wta", "groups"), [("soft", 1), ("hard", 1), ("soft", 2)])
def test_programs_wait_for_the_statistics_of_others(emulated, target, wta, groups, monkeypatch):
    """All at a time; y would be that of a tile alone."""
    tile = configs.Config(16, 32, 16, 4, 1)
    monkeypatch.setattr(configs, "forward", lambda *_: tile)
    monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    size, options = (150, 16 // groups, 3, 3), {"wta": wta, "groups": groups}
    case = Case((1, 16, 5, 7), size, options, layout="channels_last")
    x, w, _ = case.tensors(torch.bfloat16)
    call = partial(kernels.conv2d, x, w, None, **case.conv)
    got, reports = emulated(target, "ieee", call, at_a_time=True)
    assert_outputs_close(got, reference.conv2d(x.double(), w.double(), None, **case.conv), x.dtype)
    assert [r["kernel"] for r in reports] == ["prepare", "forward", "plasticity", "apply"]
    in_turn, _ = emulated(target, "ieee", call)
    assert torch.equal(in_turn.delta_w, got.delta_w)


@pytest.mark.parametrize("target", TARGETS)
def test_programs_that_are_never_joined_end_the_launch(emulator, target, monkeypatch):
    """One by one, so that the first waits in vain; after 3 polls here, which are 2^26 in truth."""
    monkeypatch.setattr(configs, "forward", lambda *_: configs.Config(16, 32, 16, 4, 1))
    case = Case((1, 16, 5, 7), (150, 16, 3, 3), {}, layout="channels_last")
    x, w, _ = case.tensors(torch.bfloat16)

    def impatient(launch: Launch):
        compiled, args = launch.compile(target), launch.source()[1]
        ptx, changes = re.subn(rf"\b{POLLS.value}\b", "3", compiled.asm["ptx"])
        assert bool(changes) == (launch.name == "forward")
        emulator.run(compiled, launch.grid, args, ptx=ptx, batch=1)

    with launches_go_to(impatient, target), pytest.raises(emulator.Fault, match="assert"):
        kernels.conv2d(x, w, None, **case.conv)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["bfloat16", pytest.param("tf32-contiguous", marks=SLOW)])
def test_order_of_programs_does_not_change_a_bit(emulated, backwards, name, target, monkeypatch):
    """Many in step, one by one, and one by one from the last: another then comes last to a tile."""
    x, w, bias, options, precision = tensors(name)
    monkeypatch.setattr(configs, "splits", lambda G, M, config: 3)

    def run(batch):
        call = partial(kernels.conv2d, x, w, bias, **options)
        return emulated(target, precision, call, batch=batch)[0]

    first, *others = (run(n)[:2] for n in (32, 1))
    backwards()
    others.append(run(1)[:2])
    assert all(torch.equal(a, b) for o in others for a, b in zip(first, o, strict=True))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "number"), [("bfloat16", 20), pytest.param("tf32x3", 25, marks=SLOW)]
)
def test_a_tensor_one_element_short_faults(shortened, name, number, target):
    x, w, bias, options, precision = tensors(name)
    tried, passed = shortened(target, precision, lambda: kernels.conv2d(x, w, bias, **options))
    assert len(tried) == number
    # of ``sums`` apply reads the first half alone, for a bias
    assert passed == ([("apply", "y_sums")] if bias is not None else [])


MUTATIONS = {
    "wait": (r"(cp\.async\.wait_group\s+)\d+", r"\g<1>9"),
    "barrier": (r"bar\.sync[^;]*;", ""),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", ["forward", "plasticity"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_kernel_is_caught(emulator, target, kernel, mutation, monkeypatch):
    """Negative controls: without its barriers or its waits a kernel must be found out."""
    x, w, bias, options, precision = tensors("tf32")
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    caught = []

    def mutate(launch: Launch):
        compiled, args = launch.compile(target), launch.source()[1]
        row_counters = launch.named.get("row_counters")
        run = partial(emulator.run, compiled, launch.grid)
        if launch.name == kernel:
            ptx, changes = re.subn(*MUTATIONS[mutation], compiled.asm["ptx"])
            in_turn(row_counters, partial(run, args))
            cut = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
            report = run(cut, ptx=ptx)
            same = all(
                torch.equal(a, b)
                for a, b in zip(args, cut, strict=True)
                if isinstance(a, torch.Tensor)
            )
            caught.append(changes > 0 and (bool(report["races"]) or not same))
        else:
            in_turn(row_counters, partial(run, args))

    with launches_go_to(mutate, target):
        kernels.conv2d(x, w, bias, **options)
    assert caught == [True]
