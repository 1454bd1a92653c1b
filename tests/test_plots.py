from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from softhebb_fast import plots
from softhebb_fast.models import build
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
    stack = list(net.blocks)
    size = plots.receptive_field_size(net, 2)
    x = torch.rand(1, 1, size, size)
    with plots._unpadded(stack):
        assert plots._pre_activations(stack, x).shape == (1, 5, 1, 1)
    assert plots._pre_activations(stack, x).shape[2] > 1


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
    stack = list(net.blocks[:2])
    with plots._unpadded(stack), torch.no_grad():
        u = plots._pre_activations(stack, found)[..., 0, 0]
        others = torch.randn(200, 1, 12, 12)
        others /= others.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        usual = plots._pre_activations(stack, others)[..., 0, 0]
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
    with pytest.raises(RuntimeError, match="inside"), plots._unpadded(list(net.blocks)):
        raise RuntimeError("inside")
    assert state() == before


@pytest.mark.parametrize("neurons", [[77], [0, -1]])
def test_neurons_that_do_not_exist(neurons):
    with pytest.raises(ValueError, match=r"neurons must lie in 0\.\.76; got"):
        plots.receptive_fields(small("4SoftHebbCnnCIFAR"), 2, neurons)


def test_perceptrons_have_no_receptive_fields():
    with pytest.raises(ValueError, match="block must be convolutional up to its bottom"):
        plots.receptive_fields(small("2SoftMlpMNIST"), 0, [0])


def test_curves_draw_what_was_recorded():
    figure = plots.curves(ROWS)
    accuracy, norms, shares = figure.axes
    assert lines(accuracy) == {
        "train": [(1, 60), (2, 80), (3, 90)],
        "test": [(1, 55), (3, 85)],
    }
    assert lines(norms) == {"layer 1": [(0.5, 20), (1, 9)], "layer 2": [(1, 5)]}
    assert list(lines(shares).values()) == [[(0.5, 0.5), (1, 0.6)], [(1, 0.9)]]
    assert accuracy.get_ylabel() == "accuracy (%)"


def test_curves_of_a_run_without_hebbian_layers():
    figure = plots.curves(ROWS[3:])
    assert lines(figure.axes[1]) == {}
    assert figure.axes[1].get_legend() is None
    with pytest.raises(ValueError, match="rows must hold recorded figures"):
        plots.curves([])


def shown(figure: Figure) -> list:
    return [axis.get_images()[0] for axis in figure.axes if axis.get_images()]


def test_filters_of_one_channel_are_scaled_to_their_largest_weight():
    filters = torch.tensor([[[[1.0, -4.0]]], [[[0.5, 0.25]]], [[[0.0, 0.0]]]])
    images = shown(plots.filter_grid(filters, "three"))
    assert [image.get_array().tolist() for image in images] == [
        [[0.25, -1.0]],
        [[1.0, 0.5]],
        [[0.0, 0.0]],
    ]
    assert {image.get_clim() for image in images} == {(-1, 1)}


def test_filters_of_three_channels_are_colours():
    filters = torch.zeros(14, 3, 2, 2)
    filters[0, 0] = 2.0
    figure = plots.filter_grid(filters, "fourteen")
    images = shown(figure)
    assert len(images) == 14
    assert len(figure.axes) == 24
    assert images[0].get_array()[0, 0].tolist() == [1, 0.5, 0.5]
    assert images[1].get_array()[0, 0].tolist() == [0.5, 0.5, 0.5]


def test_filters_of_many_channels_are_averaged():
    filters = torch.tensor([1.0, 0.0, 0.5, 0.0]).view(1, 4, 1, 1)
    assert shown(plots.filter_grid(filters, "one"))[0].get_array().tolist() == [[0.375]]


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
    # 0.62 inches a filter, five in a row and nineteen in rows of twelve, at 120 dots an inch
    assert filters == (372, 122)
    assert fields == (892, 196)
    assert curves == (1200, 408)


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
    weight = net.blocks[0].layer.weight.detach()[:96]
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
