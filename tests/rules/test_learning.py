"""What the rules are known to learn, they learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import HebbianLinear, data
from softhebb_fast.nn import reseed_
from softhebb_fast.optim import LinearDecay
from softhebb_fast.reference import settle


def gaussian(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """10,000 samples in 16 dimensions and their principal components as rows."""
    basis = torch.linalg.qr(torch.randn(16, 16, generator=draw, dtype=torch.float64))[0]
    scale = torch.linspace(2, 0.3, 16, dtype=torch.float64)
    x = torch.randn(10_000, 16, generator=draw, dtype=torch.float64) * scale @ basis.t()
    return x, torch.linalg.eigh(x.t() @ x).eigenvectors.flip(1).t()


def trained(x: Tensor, neurons: int, lr: float, epochs: int, draw, **options) -> HebbianLinear:
    steps = epochs * len(x) // 500
    layer = HebbianLinear(
        x.shape[1],
        neurons,
        update="in_place",
        schedule=LinearDecay(lr, steps),
        radius=1.0,
        dtype=x.dtype,
        generator=draw,
        **options,
    )
    for _ in range(epochs):
        for batch in x.split(500):
            layer(batch)
    return layer


def cosines(layer: HebbianLinear, components: Tensor) -> Tensor:
    w = F.normalize(layer.weight.detach(), dim=1)
    return (w * components[: len(w)]).sum(dim=1).abs()


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_oja_finds_the_first_principal_component(draw):
    x, components = gaussian(draw)
    layer = trained(x, 1, 0.2, 10, draw, rule="oja")
    assert cosines(layer, components).item() >= 0.999
    assert layer.norms().item() == pytest.approx(1, abs=1e-2)


def test_sanger_finds_the_components_in_order(draw):
    x, components = gaussian(draw)
    layer = trained(x, 8, 0.2, 40, draw, rule="sanger")
    assert cosines(layer, components).min() >= 0.99


def test_similarity_matching_finds_the_principal_subspace(draw):
    x, components = gaussian(draw)
    layer = trained(x, 4, 0.2, 20, draw, rule="similarity", momentum=0.2)
    response = settle(layer.weight.detach().t(), layer.lateral).t()  # of y to x
    own = torch.linalg.qr(response.t())[0]
    found, wanted = own @ own.t(), components[:4].t() @ components[:4]
    assert (found - wanted).norm() <= 1e-2
    assert (layer.lateral - layer.lateral.tril(-1) - layer.lateral.triu(1)).abs().max() == 0


def test_bcm_neurons_are_selective_to_one_cluster(draw):
    """Clusters of equal chance: a neuron comes to answer one, with the inverse of its share."""
    centres = torch.eye(8)[:4] + 0.3 * torch.rand(4, 8, generator=draw)
    label = torch.randint(0, 4, (20_000,), generator=draw)
    x = centres[label] + 0.02 * torch.randn(len(label), 8, generator=draw)
    layer = trained(x, 12, 0.05, 40, draw, rule="bcm", momentum=0.2, init="positive")
    answers = (centres @ layer.weight.detach().t()).t()  # [K, clusters]
    best, rest = answers.sort(dim=1, descending=True).values.split([1, 3], dim=1)
    assert rest.abs().max() <= 0.1 * best.min()
    assert best.flatten().tolist() == pytest.approx([4.0] * 12, rel=0.15)
    assert len(answers.argmax(dim=1).unique()) > 1


def mnist(limit: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels from 0 to 1 and labels of both splits."""
    splits = (data.load("mnist", "train", limit=limit), data.load("mnist", "test"))
    return tuple(t for s in splits for t in (s.images.flatten(1).float() / 255, s.labels))


def test_the_delta_rule_is_the_gradient_of_softmax_regression(draw):
    x, label, *_ = mnist(500)
    layer = HebbianLinear(784, 10, 1.0, rule="delta_rule", radius=1.0, generator=draw)
    weight = layer.weight.detach().clone().requires_grad_()
    F.cross_entropy(x @ weight.t(), label).backward()
    layer(x, target=label)
    torch.testing.assert_close(layer.weight.grad, -weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_delta_rule_classifies_as_softmax_regression_does(draw):
    x, label, x_test, label_test = mnist()
    # Less their means, and a constant for the bias that the rule does not have.
    x, x_test = (F.pad(t - x.mean(dim=0), (0, 1), value=1.0) for t in (x, x_test))
    layer = HebbianLinear(
        *(785, 10, 1.0),
        rule="delta_rule",
        update="in_place",
        schedule=LinearDecay(1.0, 10 * 600),
        radius=0.1,
        generator=draw,
    )
    other = torch.nn.Linear(785, 10, bias=False)
    optimizer = torch.optim.Adam(other.parameters(), 1e-3)
    for _ in range(10):
        for rows in torch.randperm(60_000, generator=draw).split(100):
            layer(x[rows], target=label[rows])
            optimizer.zero_grad()
            F.cross_entropy(other(x[rows]), label[rows]).backward()
            optimizer.step()
    own, usual = (
        (of(x_test).argmax(dim=1) == label_test).float().mean() for of in (layer.eval(), other)
    )
    assert usual > 0.92
    assert own > usual - 0.003


def patches(draw: torch.Generator) -> Tensor:
    """100,000 of 6x6 pixels of CIFAR-10, each normalised, in random order."""
    try:
        images = data.load("cifar10", download=False).images
    except (FileNotFoundError, RuntimeError):
        pytest.skip("CIFAR-10 is not here")
    chosen = images[torch.randperm(len(images), generator=draw)[:5000]].float() / 255
    found = F.unfold(chosen, 6).transpose(1, 2).flatten(0, 1)
    found = found[torch.randperm(len(found), generator=draw)[:100_000]]
    found = found - found.mean(dim=1, keepdim=True)
    return found / (found.std(dim=1, keepdim=True) + 0.04)


def inertia(x: Tensor, centres: Tensor) -> float:
    return sum(float(torch.cdist(p, centres).square().amin(1).sum()) for p in x.split(10_000))


@pytest.mark.slow
def test_kmeans_is_as_good_as_scikit_learns(draw):
    cluster = pytest.importorskip("sklearn.cluster")
    x = patches(draw)
    usual = cluster.MiniBatchKMeans(256, random_state=0, n_init=3).fit(x.numpy())
    layer = HebbianLinear(108, 256, rule="kmeans", update="in_place", lr=1.0)
    reseed_(layer, x, torch.arange(256), generator=draw)
    for _ in range(3):
        layer.reset_state()
        for batch in x.split(1000):
            layer(batch)
    wanted = inertia(x, torch.from_numpy(usual.cluster_centers_))
    assert inertia(x, layer.weight.detach()) <= 1.02 * wanted


def test_kmeans_of_rate_1_are_the_means_of_what_was_won(draw):
    x = torch.randn(200, 3, generator=draw, dtype=torch.float64)
    layer = HebbianLinear(
        3, 4, rule="kmeans", update="in_place", lr=1.0, radius=1.0, dtype=x.dtype, generator=draw
    )
    start, sums, counts = layer.weight.detach().clone(), torch.zeros(4, 3).double(), torch.zeros(4)
    for batch in x.split(50):
        won = torch.cdist(batch, layer.weight.detach()).argmin(dim=1)
        layer(batch)
        sums.index_add_(0, won, batch)
        counts += torch.bincount(won, minlength=4)
    met = counts > 0
    means = torch.where(met[:, None], sums / counts[:, None], start)
    torch.testing.assert_close(layer.weight.detach(), means)
    assert layer.counts.tolist() == counts.tolist()
