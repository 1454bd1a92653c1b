from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from softhebb_fast.nn import Dropout, SoftHebbLinear
from softhebb_fast.training import classifier
from softhebb_fast.training.features import FeatureSet
from softhebb_fast.training.fused_classifier import is_linear_classifier
from tests.tolerances import TOLERANCES, assert_close, literal


def samples(x: list, labels: list) -> FeatureSet:
    return FeatureSet(torch.tensor(x, dtype=torch.float32), torch.tensor(labels))


def blobs(count: int, seed: int = 0) -> FeatureSet:
    """Three classes in five dimensions, each around a direction of its own."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=drawn)
    centres = 2 * torch.eye(3, 5)
    return FeatureSet(centres[labels] + 0.3 * torch.randn(count, 5, generator=drawn), labels)


def test_evaluation_by_hand():
    model = nn.Linear(2, 2, bias=False)
    nn.init.eye_(model.weight)
    log3 = math.log(3)
    data = samples([[0, 0], [log3, 0], [0, log3]], [0, 0, 0])
    loss = (math.log(2) + math.log(4 / 3) + math.log(4)) / 3
    for batch_size in (1, 2, 1000):
        assert classifier.evaluate(model, data, batch_size) == literal((loss, 200 / 3))


def test_evaluation_has_no_effect_on_the_model():
    model = nn.Sequential(
        nn.Dropout(0.9),
        nn.BatchNorm1d(5),
        SoftHebbLinear(5, 3, update="in_place", lr=1.0),
    )
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = (classifier.evaluate(model, blobs(50)) for _ in range(2))
    assert first == second
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [part.training for part in model] == [True, False, True]


@pytest.mark.parametrize(
    "data", [samples([[0, 1]], [-1]), FeatureSet(torch.ones(0, 2), torch.ones(0))]
)
def test_evaluation_needs_labels(data):
    with pytest.raises(ValueError, match="source must hold labelled samples"):
        classifier.evaluate(nn.Linear(2, 2), data)


def test_accuracy_by_the_label_of_the_winner():
    # Neuron 0 wins classes 1, 1, 0; neuron 1 wins class 0; neuron 2 never wins, and is most
    # active on class 2, where it almost ties with neuron 1.
    train = samples(
        [[9, 0, 0], [8, 0, 0], [7, 0, 0], [0, 9, 0], [0, 8, 0], [0, 3, 2.9]], [1, 1, 0, 0, 0, 2]
    )
    test = samples([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], [1, 0, 2, 1])
    layer = nn.Identity().train()
    assert classifier.neuron_accuracy(layer, train, test, classes=3) == 75.0
    assert classifier.neuron_accuracy(layer, train, test, classes=3, batch_size=2) == 75.0
    assert layer.training


def test_a_hebbian_step_towards_the_label_by_hand():
    layer = SoftHebbLinear(2, 2, init="identity", lr=0.0, lr_power=0.0, update="in_place").eval()
    model = nn.Sequential(nn.Flatten(), layer)
    # x = (0, 2) of label 0: u = (0, 2), the update of neuron 0 is x - 0 and that of neuron 1 none;
    # divided by its largest entry it is (0, 1).
    loss, correct = classifier.hebbian_label_step(
        model, 0.1, torch.tensor([[[0.0, 2.0]]]), torch.tensor([0])
    )
    assert float(loss) == literal(math.log(1 + math.exp(2)))
    assert int(correct) == 0
    assert layer.weight.flatten().tolist() == literal([1.0, 0.1, 0.0, 1.0])


def test_hebbian_steps_learn_the_labels():
    train, test = blobs(200), blobs(200, seed=1)
    layer = SoftHebbLinear(5, 3, radius=2.0, lr=0.0, lr_power=0.0, update="in_place").eval()
    model = nn.Sequential(nn.Flatten(), layer)
    before, start = classifier.evaluate(model, test)[1], layer.weight.detach().clone()
    for epoch in range(5):
        for i in range(0, 200, 10):
            x, labels = train.batch(slice(i, i + 10))
            classifier.hebbian_label_step(model, 0.1 / (epoch + 1), x, labels)
    after = classifier.evaluate(model, test)[1]
    assert before < 70
    assert after > 95
    # Each neuron ends as the mean of its class, normalised.
    mean = torch.stack([train.images[train.labels == c].mean(dim=0) for c in range(3)])
    assert (
        F.cosine_similarity(layer.weight, mean).min()
        > 0.97
        > F.cosine_similarity(start, mean).max()
    )
    assert not layer.training


def test_a_supervised_step_by_hand():
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss, correct = classifier.supervised_step(
        model, optimizer, torch.tensor([[1.0], [2.0]]), torch.tensor([0, 0])
    )
    assert float(loss) == literal(2 * math.log(2))
    assert not loss.requires_grad
    assert int(correct) == 2
    # the gradient of the mean loss: (p - target) x averaged, (-0.5, 0.5) * 1.5
    assert model.weight.flatten().tolist() == literal([0.75, -0.75])


def test_supervised_steps_do_not_add_up_gradients():
    torch.manual_seed(0)
    model, data = nn.Linear(5, 3), blobs(40)
    copy = nn.Linear(5, 3)
    copy.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    other = torch.optim.Adam(copy.parameters(), lr=0.1)
    for _ in range(3):
        classifier.supervised_step(model, optimizer, *data.batch(slice(None)))
        other.zero_grad()
        x, labels = data.batch(slice(None))
        F.cross_entropy(copy(x), labels).backward()
        other.step()
    assert_close(model.weight, copy.weight, TOLERANCES["float32_u"])


def test_a_step_in_bfloat16_keeps_weights_and_loss_in_float32():
    seen = []
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    model[0].register_forward_hook(lambda *_: seen.append(_[-1].dtype))
    images, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 3
    start = F.cross_entropy(model(images), labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss, _ = classifier.supervised_step(model, optimizer, images, labels, autocast=True)
    assert seen == [torch.float32, torch.bfloat16]
    assert loss.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert_close(loss / 16, start.detach(), TOLERANCES["bfloat16"])
    assert F.cross_entropy(model(images), labels) < start


class HalvingDropout(Dropout):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


class OwnLinear(nn.Linear):
    pass


def test_a_head_that_does_something_of_its_own_is_not_fused():
    def head(dropout: nn.Module | None = None, linear: type = nn.Linear) -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), dropout or Dropout(0.5), linear(4, 2))

    assert is_linear_classifier(head())
    assert not is_linear_classifier(head(HalvingDropout(0.5)))
    assert not is_linear_classifier(head(nn.Dropout(0.5)))
    assert not is_linear_classifier(head(Dropout(1.0)))
    assert not is_linear_classifier(head(linear=OwnLinear))
    for part in (0, 1, 2, slice(None)):
        listened = head()
        (listened if isinstance(part, slice) else listened[part]).register_forward_hook(print)
        assert not is_linear_classifier(listened)
    own = head()
    own[1].forward = lambda x: x
    assert not is_linear_classifier(own)
