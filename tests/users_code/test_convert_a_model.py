"""A model with a probe, a mask and a learning layer of its own is made Hebbian."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import prune

from softhebb_fast import Triangle, convert
from tests.nn.example import ExampleConv2d


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.BatchNorm2d(3, affine=False), ExampleConv2d(3, 8, 5, padding=2)
        )
        self.body = nn.Sequential(
            *(Triangle(0.7), nn.MaxPool2d(4, 2, 1)),
            *(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(12, 12, 3, padding=1), nn.AdaptiveAvgPool2d(2)),
        )
        self.hidden, self.head = nn.Linear(48, 16), nn.Linear(16, 10)
        self.seen: list[torch.Tensor] = []
        self.hidden.register_forward_hook(lambda module, given, out: self.seen.append(out))
        prune.random_unstructured(self.body[4], "weight", 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.body(self.stem(x)).flatten(1)).relu())


def test_the_model_computes_the_same_and_learns_where_the_report_says_so(tmp_path):
    torch.manual_seed(0)
    model, x = Model().eval(), torch.rand(4, 3, 16, 16)
    expected = model(x)
    torch.save(model.state_dict(), tmp_path / "before.pt")

    result = convert(model, update="in_place", lr=0.01)
    assert str(result).splitlines() == [
        "converted: stem.1, body.2",
        "left alone: body.4: it has forward_pre_hooks",
        "left alone: hidden: it has forward_hooks",
        "left alone: head: the last linear layer, taken to be the classifier",
    ]
    assert torch.equal(model(x), expected)
    assert len(model.seen) == 2

    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.train()(x)
    moved = {
        n for n, t in model.state_dict().items() if n in start and not torch.equal(t, start[n])
    }
    assert {"stem.1.weight", "body.2.weight"} == {n for n in moved if n.endswith("weight")}
    assert torch.equal(model.body[4].weight != 0, model.body[4].weight_mask == 1)

    model.load_state_dict(torch.load(tmp_path / "before.pt"))
    assert torch.equal(model.eval()(x), expected)
