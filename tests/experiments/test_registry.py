"""The published experiments: that their cells are what was published, and can be built."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.experiments import EXPERIMENTS, get_experiment
from softhebb_fast.experiments.cell import differences
from softhebb_fast.init.diversity import distinct_filters
from softhebb_fast.models import build
from softhebb_fast.training.config import RunConfig

CELLS = [(e, c) for e in EXPERIMENTS.values() for c in e.cells]


def test_cells_of_one_name_are_one_run():
    runs = {}
    for _, cell in CELLS:
        assert runs.setdefault(cell.name, dict(cell.run)) == dict(cell.run)
    named = list(runs.values())
    assert all(a != b for i, a in enumerate(named) for b in named[:i])


@pytest.mark.parametrize(("experiment", "cell"), CELLS, ids=lambda v: v.name)
def test_every_cell_can_be_configured(experiment, cell):
    config = cell.config(seed=3)
    assert config.seed == 3
    if cell.kind is RunConfig:
        assert config.network().layers
    assert set(cell.published) <= set(experiment.columns)
    if experiment.figure in ("bars", "lines"):
        assert cell.series
        assert cell.x


def test_the_published_figures_are_all_there():
    sizes = {name: len(experiment.cells) for name, experiment in EXPERIMENTS.items()}
    published = ("table1", "table2", "figure1", "table5", "figure2", "softhebb")
    assert [sizes[name] for name in published] == [14, 7, 10, 6, 23, 22]
    with pytest.raises(ValueError, match=r"name must be one of table1, .*; got 'table9'"):
        get_experiment("table9")
    with pytest.raises(ValueError, match="cell must be one of mnist-3-normal"):
        get_experiment("table2").cell("mnist")
    with pytest.raises(ValueError, match="cells must match some of mnist-3-normal"):
        get_experiment("table2").matching("cifar*")
    assert [c.name for c in get_experiment("table1").matching("*-3-zero")][1] == (
        "fashionmnist-3-zero"
    )


SMALL = [
    c
    for c in (*EXPERIMENTS["collapse"].cells, *EXPERIMENTS["breakers"].cells)
    if "quarter" in c.name
]


@pytest.mark.parametrize("cell", SMALL, ids=lambda c: c.name)
def test_starts_are_as_distinct_as_they_say(cell):
    config = cell.config(0)
    shape = (1, 28, 28) if config.dataset == "mnist" else (3, 32, 32)
    net = build(config.network(), shape, 10, init=config.init)
    found = [distinct_filters(block.layer.weight) for block in net.blocks]
    zero = isinstance(config.init, dict) and config.init.get("name") == "zerO"
    if config.init == "random_bias":
        assert found == [1, 1, 1]
        assert all(len(block.layer.bias.unique()) > 1 for block in net.blocks)
    elif zero and "noise" not in config.init:
        assert found == [1 if config.dataset == "mnist" else 4, 32, 128]
    else:
        assert found == [24, 96, 384]


def weights(cell: str, seed: int) -> list[torch.Tensor]:
    config = get_experiment("table2").cell(cell).config(seed)
    torch.manual_seed(seed)
    net = build(config.network(), (1, 28, 28), 10, init=config.init)
    return [block.layer.weight for block in net.blocks]


def test_nonzeros_are_the_published_integers():
    zero = weights("mnist-3-zero", 0)
    assert [int(w.count_nonzero()) for w in zero] == [96, 36864, 589824]
    assert [distinct_filters(w) for w in zero] == [1, 128, 512]
    assert [int(w.count_nonzero()) for w in weights("mnist-3-normal", 0)] == [2400, 331776, 5308416]
    binary = [[int(w.count_nonzero()) for w in weights("mnist-3-binary", s)] for s in (1, 2)]
    assert binary == [[1173, 165835, 2653260], [1216, 165784, 2653880]]
    published = get_experiment("table2").cell("mnist-3-binary").published["initial_nonzeros"]
    assert published == f"{binary[0][0]} {binary[1][1]} {binary[1][2]}"


def test_runs_differ_by_what_makes_their_numbers():
    cell = get_experiment("table1").cell("mnist-3-zero")
    config = cell.config(0, backend="auto")
    assert differences(cell.config(0, backend="cpp", cache_gib=1.0), config) == []
    assert differences(cell.config(0, backend="cpp"), cell.config(0, backend="reference")) == [
        "backend: 'cpp' there, 'reference' here"
    ]
    assert differences(cell.config(1), config) == ["seed: 1 there, 0 here"]
    assert differences(cell.config(0, limit=5), config) == ["limit: 5 there, None here"]
