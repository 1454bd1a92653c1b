"""Pages that are written from results say what the results do."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from benchmarks.gpu import page, page_measured
from benchmarks.gpu.traffic import FIELDS
from benchmarks.pages import readme
from tests.bench.tiny import row


def test_committed_tables_are_those_of_the_results():
    for path, text in readme.pages(readme.results()).items():
        same = path.read_text(encoding="utf-8") == text
        assert same, f"{path.name} is stale: python -m benchmarks.pages.readme --write"


def test_the_table_of_steps():
    found = [
        row(provider="published", median=0.35),
        row(median=0.0712),
        row(case="mnist/step/b32", median=0.0123),
    ]
    assert readme.steps(found).splitlines() == [
        "| | CIFAR-10 net, batch 10 | MNIST net, batch 32 |",
        "|---|---|---|",
        "| as published | 350 |  |",
        "| **`cpp`** | **71.2** | **12.3** |",
    ]


def test_the_phases_add_up():
    found = [
        row(case="cifar10/run/layer1", median=60.0),
        row(case="cifar10/run/layer2", median=120.0),
        row(case="cifar10/run/probe", median=240.0),
        row(case="cifar10/run/layer1", provider="published", median=600.0),
        row(case="cifar10/run/probe", provider="published", median=900.0),
        row(case="cifar10/run/layer1", provider="published-flushed", median=300.0),
    ]
    assert readme.run(found).splitlines() == [
        "| | as published | as published, denormals flushed | **`cpp`** |",
        "|---|---|---|---|",
        "| Hebbian layers, one epoch each | 600 s | 300 s | 180 s |",
        "| features that are kept |  |  |  |",
        "| classifier, 50 epochs | 900 s | 900 s | 240 s |",
        "| evaluation |  |  |  |",
        "| together | **25.0 min** | **20.0 min** | **7.0 min** |",
    ]


def test_layers_by_provider():
    found = [row(case="mnist/layer1/b32", median=0.001), row(case="mnist/probe/b32", median=2e-4)]
    assert readme.layers(found).splitlines()[2:] == [
        "| `mnist/layer1/b32` | 1.00 ms |",
        "| `mnist/probe/b32` | 200 µs |",
    ]


def test_steps_by_other_rules():
    found = [
        row(case="rules/softhebb/layer2/b10", median=0.01),
        row(case="rules/hebb/layer2/b10", median=0.0104),
        row(case="rules/bcm/layer2/b10", median=0.012),
        row(case="rules/sanger/layer2/b10", median=0.014),
        row(case="rules/hebb/layer2/b10", provider="fasthebb", median=0.026),
        row(case="rules/softhebb/layer2/b10", provider="fasthebb", median=0.02),
    ]
    lines = readme.by_rule(found).splitlines()
    assert "| softhebb |  | 10.0 ms |  |  |  |  | 2.0 |  |" in lines
    assert "| hebb |  | 1.04 |  |  |  |  | 2.5 |  |" in lines
    assert lines[-4:] == [
        "- Rules with a diagonal gain, at most 1.05 times SoftHebb's step: 1 of 2 cases.",
        "- Rules of pairs of neurons, at most 1.4 times SoftHebb's step: 1 of 1 cases.",
        "- `fasthebb`, at least 2.5 times ours: 1 of 2 cases.",
        "- `naive`, at least 6 times ours: 0 of 0 cases.",
    ]


def test_a_table_takes_the_place_of_the_old_one():
    mark = "<!-- a: python -m benchmarks.pages.readme --write -->\n"
    assert readme.replaced(f"x\n{mark}old\n<!-- end a -->\ny", "a", "new") == (
        f"x\n{mark}new\n<!-- end a -->\ny"
    )
    with pytest.raises(ValueError, match="no block 'b'"):
        readme.replaced("x", "b", "new")


def test_the_committed_gpu_page_is_that_of_the_tables():
    same = page.PAGE.read_text(encoding="utf-8") == page.committed()
    assert same, "write it again: python -m benchmarks.gpu.page"


def test_steps_stand_beside_the_library_and_phases_beside_their_kernels():
    machine = {"machine": "card", "versions": "torch", "commit": "abc"}
    steps = [
        {"case": "step", "provider": name, "median": median} | machine
        for name, median in (
            ("triton-graph-tf32", "3e-6"),
            ("library-graph-tf32", "4e-6"),
            ("triton-graph-bf16", "1"),  # without its library
        )
    ]
    phases = [
        {
            "phase": "cifar10/run/layer1",
            "steps": "5000",
            "us": "100",
            "kernel": "",
            "kernel_us": "",
        },
        {"phase": "cifar10/run/layer1", "kernel": "void at::copy_kernel<4>(x)", "kernel_us": "9"},
        {"phase": "cifar10/run/layer1", "kernel": "little_kernel", "kernel_us": "1"},
    ]
    cells = {"seeds": "8", "accuracy": "80.3", "alone_s": "9", "together_s": "18", "ratio": "2.00"}
    text = page_measured.day(steps, [], phases, [], [cells])
    assert "| 8 | 80.3 | 9 | 18 | 2.00 |" in text
    assert "Seeds of that run" not in page_measured.day(steps, [], phases, [], [])
    assert "| step | tf32 | 3 | 4 | 0.75 |" in text
    assert "bfloat16" not in text
    assert "| layer1 | 5000 | 100 | copy_kernel 9 |" in text


def counted(layer, kernel, floor, **more):
    values = {
        "layer": layer,
        "precision": "tf32",
        "kernel": kernel,
        "counted": "4 of 8",
        "tile": "64",
    }
    units = {"floor_us": floor, "l2_us": "7.5", "tensor_us": "1.0", "hbm_us": floor}
    units |= {"l2_sectors": "1000"}
    return values | units | {"store_sectors": "0", "macs": "500000", "library_us": ""} | more


def test_the_gpu_page_adds_up():
    rows_ = [
        counted("cifar10-1@10", "one_pass", "3.0"),
        counted("cifar10-1@10", "apply", "1.0"),
        counted("cifar10-2@10", "plasticity", "6.0", a_new_column="7"),
        counted("mnist-1", "one_pass", "100.0"),
    ]
    budget = {"kernel": "apply", "target": "sm_90a", "registers": "30", "spills": "0"}
    budget |= {"shared": "2048", "occupancy": "50", "matrix": ""}
    wider = budget | {"registers": "40", "occupancy": "43", "matrix": "HGMMA"}
    measured = {"layer": "cifar10-2@10", "precision": "tf32", "kernel": "plasticity", "tile": "64"}
    measured |= {"warps": "4", "stages": "3", "us": "9.0", "mm_us": "15.8", "conv_us": "14.7"}
    untried = measured | {"layer": "cifar10-3@10", "us": ""}
    traffic = [
        dict.fromkeys(FIELDS, "")
        | {"layer": layer, "precision": "tf32", "call": call, "launches": launches}
        for layer, call, launches in (
            ("cifar10-1@10", "step", "2"),
            ("cifar10-2@10", "step", "1"),
            ("cifar10-2@10", "block", "9"),
        )
    ]
    text = page.page(rows_, [budget, wider], traffic, swept=[measured, untried])
    assert "| cifar10-1@10 | tf32 | 2 | 0.1 | 0.00 | 4.0 | 2.0 |" in text
    # 5000 steps of 10 µs, and of three launches
    assert "| tf32 | 0.05 | 0.04 | 0.09 |" in text
    assert "| cifar10-2@10 | tf32 | plasticity | 4 of 8 | 64 | 6.0 | hbm | 7.5 |  |" in text
    assert "| apply | sm_90a | 30–40 | 0 | 2 | 43–50 | HGMMA |" in text
    row = "| cifar10-2@10 | tf32 | plasticity | 64 | 4 | 3 |"
    assert f"{row} 9.0 | 6.0 | 7.5 | 15.8 | 14.7 |" in text
    assert f"{row.replace('-2', '-3')}  |  |  | 15.8 | 14.7 |" in text
    assert "plasticity 1.5 (1.5 to 1.5)" in text
