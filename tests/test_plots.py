from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from softhebb_fast import plots
from softhebb_fast.models import build, features
from softhebb_fast.pictures.filters import tiles, unlearned
from softhebb_fast.pictures.paths import path_to, unpadded
from softhebb_fast.pictures.style import DPI, WIDTH
from softhebb_fast.presets import get_preset, parse_network

ROWS = [
    {"phase": "hebbian", "layer": 1, "epoch": 0.5, "norm_mean": 20.0, "winner_probability": 0.5},
    {"phase": "hebbian", "layer": 1, "epoch": 1, "norm_mean": 9.0, "winner_probability": 0.6},
    {"phase": "hebbian", "layer": 2, "epoch": 1, "norm_mean": 5.0, "winner_probability": 0.9},
    {"phase": "probe", "epoch": 1, "train_accuracy": 60.0, "test_accuracy": 55.0},
    {"phase": "probe", "epoch": 2, "train_accuracy": 80.0},
    {"phase": "probe", "epoch": 3, "train_accuracy": 90.0, "test_accuracy": 85.0},
]


def small(name: str, shape: tuple[int, int, int] = (1, 28, 28)):
    return build(get_preset(name, neuron_factor=0.05), shape, 10).eval()


def custom(layers: str, shape: tuple[int, int, int] = (1, 28, 28)):
    return build(parse_network(layers), shape, 10).eval()


def lines(axis) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(map(tuple, line.get_xydata())) for line in axis.get_lines()}


def size_of(path) -> tuple[int, int]:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("4SoftHebbCnnCIFAR", [5, 12, 26]), ("5SoftHebbCnnSTL", [5, 12, 26, 54])],
)
def test_receptive_fields_have_the_published_sizes(name, sizes):
    with torch.device("meta"):
        net = build(get_preset(name), (3, 96, 96), 10)
    assert [plots.receptive_field_size(net, block) for block in range(len(sizes))] == sizes


def test_stride_and_dilation_widen_receptive_fields():
    net = custom("soft-c4-k3-s2-d2:max_2_2_0 soft-c4-k3-d3 BP", (1, 40, 40))
    # 1 + 2·2 = 5; the pool sees 2 more, and each step above is 4 wide: 7 + 2·3·4
    assert [plots.receptive_field_size(net, block) for block in (0, 1)] == [5, 31]


@pytest.mark.parametrize(
    "layers",
    [
        "soft-c4-k5-p2:triangle:max_4_2_1 soft-c6-k3-p1:triangle:avg_4_2_1 soft-c5-k3-p1 BP",
        "BP-c4-k5-p2:relu:max_4_2_1 soft-c6-k3-p1:relu:avg_2_2_0 BP-c5-k3-p1 BP",
    ],
    ids=["hebbian", "backpropagation"],
)
def test_one_unit_sees_the_whole_receptive_field_and_no_padding(layers):
    net = custom(layers)
    path = path_to(net, 2)
    size = plots.receptive_field_size(net, 2)
    x = torch.rand(1, 1, size, size)
    with unpadded(path):
        assert features(path, x).shape == (1, 5, 1, 1)
    assert features(path, x).shape[2] > 1


def test_what_a_bare_filter_responds_to_is_the_filter():
    net = custom("soft-c8-k7-p3:none:triangle BP")
    found = plots.receptive_fields(net, 0, [5, 2])
    assert found.shape == (2, 1, 7, 7)
    weight = net.blocks[0].layer.weight.detach()[[5, 2]]
    cosine = torch.cosine_similarity(found.flatten(1), weight.flatten(1))
    assert cosine.min() > 0.99999
    assert found.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["4SoftHebbCnnCIFAR", "4SoftHebbCnnCIFAR_noBatchNorm"])
def test_deeper_fields_are_not_blank(name):
    found = plots.receptive_fields(small(name), 2, [0, 1, 2])
    assert found.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert found.flatten(1).std(dim=1).min() > 0.005


def test_deeper_fields_excite_their_neuron_most():
    net = small("4SoftHebbCnnCIFAR")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = plots.receptive_fields(net, 1, [0, 3], steps=100, step_size=0.01)
    assert found.shape == (2, 1, 12, 12)
    assert not found.requires_grad
    path = path_to(net, 1)
    with unpadded(path):
        u = features(path, found)[..., 0, 0]
        others = torch.randn(200, 1, 12, 12)
        others /= others.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        usual = features(path, others)[..., 0, 0]
    assert u[0, 0] > usual[:, 0].max()
    assert u[1, 3] > usual[:, 3].max()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_padding_and_modes_come_back():
    net = small("4SoftHebbCnnCIFAR")
    net.blocks[0].train()

    def state():
        layers = [(b.layer.padding, b.layer.padding_mode, b.pool.padding) for b in net.blocks]
        return layers, [part.training for part in net.modules()]

    before = state()
    assert before[0] == [((2, 2), "reflect", 1), ((1, 1), "reflect", 1), ((1, 1), "reflect", 0)]
    plots.receptive_fields(net, 2, [0], steps=2)
    assert state() == before
    with pytest.raises(RuntimeError, match="inside"), unpadded(path_to(net, 1)):
        raise RuntimeError("inside")
    assert state() == before


@pytest.mark.parametrize("neurons", [[77], [0, -1]])
def test_neurons_that_do_not_exist(neurons):
    with pytest.raises(ValueError, match=r"neurons must lie in 0\.\.76; got"):
        plots.receptive_fields(small("4SoftHebbCnnCIFAR"), 2, neurons)


def test_perceptrons_have_no_receptive_fields():
    with pytest.raises(ValueError, match="block must be convolutional up to its bottom"):
        plots.receptive_fields(small("2SoftMlpMNIST"), 0, [0])


def panels(figure: Figure) -> dict:
    return {axis.get_ylabel(): axis for axis in figure.axes if axis.axison}


def test_curves_draw_what_was_recorded():
    found = panels(plots.curves(ROWS))
    assert list(found) == ["accuracy (%)", "mean norm of the filters", "mean softmax of the winner"]
    accuracy, norms, shares = found.values()
    assert lines(accuracy) == {
        "train, at last 90.00 %": [(1, 60), (2, 80), (3, 90)],
        "test, at last 85.00 %": [(1, 55), (3, 85)],
    }
    drawn = lines(norms)
    assert drawn.pop("norm 1")
    assert drawn == {"layer 1": [(0.5, 20), (1, 9)], "layer 2": [(1, 5)]}
    assert list(lines(shares).values()) == [[(0.5, 0.5), (1, 0.6)], [(1, 0.9)]]
    assert (norms.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    assert all(axis.get_legend() for axis in found.values())


def test_curves_of_all_that_a_run_records(tmp_path):
    start = {"norm_mean": 25.0, "winner_entropy": 3.0, "competition_entropy": 2.0}
    start |= {"winner_probability": 0.5, "distinct_filters": 4, "phase": "hebbian", "layer": 1}
    gap = start | {"epoch": 0.5, "norm_mean": math.nan, "winner_entropy": math.nan}
    judged = {"phase": "probe", "epoch": 0, "test_loss": 2.3, "test_accuracy": 10.0}
    learned = {"phase": "probe", "epoch": 1, "train_loss": 0.5, "test_loss": 0.4}
    figure = plots.curves([start | {"epoch": 0}, gap, start | {"epoch": 1}, judged, learned])
    found = panels(figure)
    assert list(found) == [
        "accuracy (%)",
        "loss (nats an image)",
        "mean norm of the filters",
        "entropy of the wins (bits)",
        "entropy of the competition (bits)",
        "distinct filters",
    ]
    assert lines(found["loss (nats an image)"])["test, at last 0.4"] == [(0, 2.3), (1, 0.4)]
    assert found["loss (nats an image)"].get_yscale() == "log"
    assert [x for x, _ in lines(found["entropy of the wins (bits)"])["layer 1"]] == [0, 0.5, 1]
    assert size_of(plots.save(figure, tmp_path / "c.png"))[0] == round(WIDTH * DPI)


def test_a_loss_of_nothing_but_zeros_and_gaps_is_drawn():
    rows = [{"phase": "probe", "epoch": e, "test_loss": v} for e, v in ((0, 0.0), (1, math.nan))]
    assert panels(plots.curves(rows))["loss (nats an image)"].get_yscale() == "linear"


def test_curves_of_a_run_without_hebbian_layers():
    assert list(panels(plots.curves(ROWS[3:]))) == ["accuracy (%)"]
    with pytest.raises(ValueError, match="rows must hold recorded figures"):
        plots.curves([])


def test_many_weights_are_drawn_and_some_named():
    symmetry = [
        {"weight": f"{i}.weight", "step": s, "deviation": 1e-9 * 10**s if s else 0.0}
        for i in range(60)
        for s in (0, 1, 5)
    ]
    axis = plots.learning(ROWS[3:], symmetry).axes[1]
    assert len(axis.get_lines()) == 61
    named = [text.get_text() for text in axis.get_legend().get_texts()]
    assert (len(named), named[-1]) == (9, "52 others")
    ticks = [tick for tick in axis.get_yticks() if tick]
    assert min(ticks) > 0
    assert len(ticks) <= 6


def shown(figure: Figure) -> list:
    return figure.axes[0].get_images()


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_filters_of_one_channel_are_scaled_to_their_largest_weight():
    filters = torch.tensor([[[[1.0, -4.0]]], [[[0.5, 0.25]]], [[[0.0, 0.0]]]])
    figure = plots.filter_grid(filters, "three")
    assert [image.get_array().tolist() for image in shown(figure)] == [
        [[0.25, -1.0]],
        [[1.0, 0.5]],
        [[0.0, 0.0]],
    ]
    assert {image.get_clim() for image in shown(figure)} == {(-1, 1)}
    bar = figure.axes[1].get_xlabel()
    assert bar == "weight, relative to the largest magnitude in its picture"
    assert figure.get_suptitle() == "three\n3 filters"


def test_filters_of_three_channels_are_colours():
    filters = torch.zeros(14, 3, 2, 2)
    filters[:, 0, 1, 1] = torch.arange(14)
    filters[0, 0, 0, 0] = 2.0
    figure = plots.filter_grid(filters, "fourteen")
    images = shown(figure)
    assert len(images) == 14
    assert images[0].get_array()[0, 0].tolist() == [1, 0.5, 0.5]
    assert images[1].get_array()[0, 0].tolist() == [0.5, 0.5, 0.5]
    assert len(figure.axes) == 1  # colours have no bar


def test_other_channels_stand_side_by_side_or_are_averaged():
    two = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)
    (image,) = shown(plots.filter_grid(two, "one"))
    assert image.get_array().filled(9).tolist() == [[0.5, 9, -1]]
    four = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, -3.0]).view(1, 4, 1, 2)
    (image,) = shown(plots.filter_grid(four, "one"))
    assert image.get_array().tolist() == [[0.5, -1.0]]  # means 0.375 and -0.75


def test_equal_filters_are_drawn_once_and_the_busiest_first():
    filters = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 4.0]).view(6, 1, 1, 1) * torch.ones(1, 1, 2, 2)
    filters[:, :, 0, 0] = 0
    wins = torch.tensor([1, 6, 1, 0, 0, 2])
    found = tiles(filters, wins)
    assert [(tile.filter, tile.copies, tile.wins) for tile in found] == [
        (1, 1, 6),
        (0, 3, 2),
        (5, 1, 2),
        (3, 1, 0),
    ]
    figure = plots.filter_grid(filters, "six", wins=wins)
    assert words(figure) == ["60.0 %", "×3 20.0 %", "20.0 %", "0"]
    assert "4 distinct of 6 filters" in figure.get_suptitle()
    alike = plots.filter_grid(torch.ones(96, 1, 3, 3), "alike")
    assert (len(shown(alike)), words(alike)) == (1, ["×96"])
    assert "1 distinct of 96 filters" in alike.get_suptitle()


def test_filters_that_have_not_learned_are_marked():
    start = torch.tensor([25.0, 25.0, 25.0, 0.0, math.nan])
    still = unlearned(torch.tensor([25.0, 24.0, 25.01, 0.0, math.nan]), start)
    assert still.tolist() == [True, False, True, True, False]
    filters, wins = torch.randn(5, 1, 3, 3), torch.tensor([0, 9, 5, 0, 0])
    figure = plots.filter_grid(filters, "five", wins=wins, still=still)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["not learned: norm as at the start, to 0.1 %", "never wins"]
    edges = [patch.get_edgecolor()[:3] for patch in figure.axes[0].patches]
    assert edges[1] == edges[2] == edges[3] != edges[4]  # of filters 2, 0 and 3, and of 4
    assert plots.filter_grid(filters, "five", wins=wins + 1).legends == []


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 7, 1), (2000, 1, 3, 3), (3, 96, 1, 9)])
def test_grids_of_any_size_fit_the_page(tmp_path, shape):
    filters = torch.randn(shape)
    filters[0] = math.nan
    figure = plots.filter_grid(filters, "any", wins=torch.zeros(shape[0], dtype=torch.int64))
    assert len(shown(figure)) == min(shape[0], 96)
    assert size_of(plots.save(figure, tmp_path / "f.png"))[0] == round(WIDTH * DPI)


@pytest.mark.parametrize(
    ("shape", "more", "match"),
    [
        ((3, 9), {}, r"filters must be \[K, C, R, S\].*got torch.Size\(\[3, 9\]\)"),
        ((0, 1, 3, 3), {}, "filters must be"),
        ((3, 1, 2, 2), {"wins": torch.zeros(2)}, r"wins must have shape \[3\]; got"),
        ((3, 1, 2, 2), {"still": torch.zeros(3, 1)}, r"still must have shape \[3\]; got"),
    ],
)
def test_filters_that_cannot_be_drawn(shape, more, match):
    with pytest.raises(ValueError, match=match):
        plots.filter_grid(torch.zeros(shape), "none", **more)


def test_pictures_of_a_run(tmp_path):
    net = small("3SoftHebbCnnCIFAR")
    written = plots.plot_run(net, ROWS, tmp_path)
    assert [path.name for path in written] == [
        "filters.png",
        "receptive_fields_2.png",
        "curves.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in written)
    filters, fields, curves = map(size_of, written)
    assert {width for width, _ in (filters, fields, curves)} == {round(WIDTH * DPI)}
    assert fields[1] > filters[1]  # nineteen fields are two rows, five filters one


def test_pictures_of_a_run_know_what_was_recorded(tmp_path, monkeypatch):
    net, drawn = small("3SoftHebbCnnCIFAR"), []
    draw = plots.tile_grid
    monkeypatch.setattr(plots, "tile_grid", lambda *given: drawn.append(given) or draw(*given))
    recorded = {
        2: {"epoch": 1, "wins": [0] * 18 + [7], "norm": [1.0] * 19, "start_norm": [25] * 19}
    }
    plots.plot_run(net, [], tmp_path, neurons=3, recorded=recorded)
    ((fields, shown, every, *_),) = drawn
    assert fields.shape[0] == len(shown) == 3
    assert [tile.filter for tile in shown] == [18, 0, 1]
    assert len(every) == 19


def test_fields_and_curves_may_be_left_out(tmp_path):
    net = small("3SoftHebbCnnCIFAR")
    written = plots.plot_run(net, [], tmp_path, fields=False)
    assert [path.name for path in written] == ["filters.png"]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_weights_of_a_perceptron_are_drawn_as_images(tmp_path, shape, monkeypatch):
    net, drawn = small("2SoftMlpMNIST", shape), []
    monkeypatch.setattr(
        plots, "filter_grid", lambda filters, title: drawn.append(filters) or Figure()
    )
    written = plots.plot_run(net, [], tmp_path)
    assert [path.name for path in written] == ["filters.png"]
    weight = net.blocks[0].layer.weight.detach()
    assert torch.equal(drawn[0], weight.view(-1, *shape))


@pytest.mark.parametrize(
    ("layers", "files"),
    [
        ("soft-c6 BP", []),
        ("BP-c4-k3:relu BP", []),
        ("BP-c4-k3:relu soft-c6-k3 BP", ["receptive_fields_2.png"]),
    ],
)
def test_networks_with_little_to_draw(tmp_path, layers, files):
    net = custom(layers, (1, 7, 8))
    assert [path.name for path in plots.plot_run(net, [], tmp_path)] == files


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    plots.save(plots.curves(ROWS), path)
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write(b"half")
        raise OSError("no space")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        plots.save(plots.curves(ROWS), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_whitened_layers_are_drawn_in_pixels(tmp_path):
    first = "soft-c4-k5-p2-s2:whiten-n0.1:triangle:max_2_2_0"
    net = custom(f"{first} soft-c6-k3-p1:whiten_pca-m7:triangle soft-c5-k3:triangle BP")
    for block, x in ((0, torch.rand(9, 1, 28, 28)), (1, torch.rand(9, 4, 7, 7))):
        net.blocks[block].norm.fit(x)
    assert [plots.receptive_field_size(net, block) for block in range(3)] == [5, 15, 23]
    assert plots.receptive_fields(net, 2, [0, 4], steps=2).shape == (2, 1, 23, 23)
    assert net.blocks[0].norm.padding == (2, 2)
    folded, _ = net.blocks[0].norm.folded(net.blocks[0].layer.weight.detach())
    assert torch.equal(plots.filters_of(net, 0), folded)
    assert folded.shape == (4, 1, 5, 5)
    files = plots.plot_run(net, ROWS, tmp_path, neurons=2)
    names = ["filters.png", "receptive_fields_2.png", "receptive_fields_3.png", "curves.png"]
    assert [path.name for path in files] == names
