"""Every rule in the same two networks: one leaderboard, by one protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from softhebb_fast.experiments.cell import Cell, Experiment
from softhebb_fast.experiments.definitions.collapse import SETS
from softhebb_fast.experiments.definitions.nets import CIFAR_NET, SOLVED, pixels, written
from softhebb_fast.experiments.definitions.table1 import TITLES
from softhebb_fast.presets import get_preset, with_rule
from softhebb_fast.presets.blocks import RELU

RULES = {
    "softhebb": "SoftHebb",
    "krotov": "Krotov and Hopfield",
    "instar": "instar",
    "kmeans": "k-means",
    "hebb": "Hebb",
    "oja": "Oja",
    "sanger": "Sanger (HPCA)",
    "bcm": "BCM",
    "similarity": "similarity matching",
    "nonnegative_similarity": "nonnegative similarity matching",
}
# Nothing bounds the size of their steps, which grows with what a layer sees.
UNBOUNDED = ("oja", "sanger", "bcm", "similarity", "nonnegative_similarity")
DEEP_FACTOR = 0.1  # of their searched rates, where layers see the outputs of others
TEACHER = "teacher-lr0.01"
DELTA_RULE = {"mnist": "delta_rule-t1-lr0.3-v0", "cifar10": "delta_rule-t1-lr0.03-v0"}


class Net(NamedTuple):
    """A network in words, as it is published, and the side to which its last map is pooled."""

    title: str
    preset: str
    neuron_factor: float
    grid: int

    @property
    def run(self) -> dict[str, Any]:
        return {"preset": self.preset, "neuron_factor": self.neuron_factor}

    def by(self, rule: str) -> dict[str, Any]:
        """The network learned by ``rule``."""
        if self.preset != CIFAR_NET or rule not in UNBOUNDED:
            return {**self.run, "rule": rule}
        net = get_preset(self.preset, neuron_factor=self.neuron_factor)
        *body, head = with_rule(net, rule).layers
        layers = (replace(layer, lr=DEEP_FACTOR * layer.lr) for layer in body)
        return {"preset": written(*layers, head)}

    def backpropagated(self) -> str:
        """The same shapes as layer strings, rectified, all learned from the loss."""
        *body, head = get_preset(self.preset, neuron_factor=self.neuron_factor).layers
        layers = (replace(layer, rule="bp", activation=RELU) for layer in body)
        return written(*layers, head)


NETS = {
    "1": Net("1 layer", "2SoftHebbCnnCIFAR", 1.0, 4),
    "3": Net("3 layers", CIFAR_NET, 0.25, 2),
}


def _cells(dataset: str, layers: str, net: Net) -> list[Cell]:
    title, place = f"{TITLES[dataset]}, {net.title}", f"rules-{dataset}-{layers}"
    judged = {"dataset": dataset, "features": {"grid": net.grid}, **SOLVED}
    start = {**net.run, **judged, "unsup_epochs": 0}
    rules = {name: (label, {**net.by(name), **judged}) for name, label in RULES.items()}
    others = {
        "random": ("random filters", start),
        "patches": ("sampled patches", {**start, "init": "patches"}),
        "backprop": (
            "backpropagation, end to end",
            {
                **{"preset": net.backpropagated(), "dataset": dataset},
                **{"mode": "consecutive", "probe_epochs": 10},
            },
        ),
    }
    return [
        Cell(f"{place}-{rule}", f"{title}: {label}", run)
        for rule, (label, run) in (rules | others).items()
    ]


def _on_pixels(dataset: str) -> list[Cell]:
    title = TITLES[dataset]
    delta = {"preset": DELTA_RULE[dataset], "dataset": dataset}
    taught = {
        "delta_rule": ("delta rule", delta),
        "teacher": ("teacher", {"preset": TEACHER, "dataset": dataset}),
    }
    cells = [
        Cell(f"rules-{dataset}-pixels-{rule}", f"{title}, pixels: {label} as the classifier", run)
        for rule, (label, run) in taught.items()
    ]
    return [*cells, pixels(dataset, f"{title}, ")]


KROTOV = Cell(
    "rules-mnist-krotov-2000",
    "MNIST, 2,000 neurons by the protocol of Krotov and Hopfield",
    {
        **{"preset": "krotov-c2000-lr0.02-r28-v0:unitlength:repu_4.5 BP", "dataset": "mnist"},
        **{"init": "normal", "unsup_epochs": 200, "unsup_batch": 100},
        **{"classifier": "softmax", "softmax": {"standardise": True}},
    },
    target=98.0,
)

EXPERIMENT = Experiment(
    "rules",
    "Every Hebbian rule in the same networks",
    "this project",
    """\
One protocol for all: one epoch over the training images in the published batches, and a ridge
classifier on 1,536 features of the last layer. One layer is that of `2SoftHebbCnnCIFAR` (96
filters of 5x5), its map pooled to 4x4. Three are those of `4SoftHebbCnnCIFAR` with a quarter of
the neurons (24, 96, 384), pooled to 2x2. Batch norm, Triangle and pooling are the same for every
rule; only the rule and its rate change. Rates of the rules were searched with one layer on
held-out training images of CIFAR-10 by `python -m benchmarks.rules.rates`
([search_rules.csv](../results/search_rules.csv)); SoftHebb has its published ones. Oja, Sanger,
BCM and both similarity rules learn at a tenth of them in three layers, where some diverged: nothing
bounds their steps. Hebb and Oja keep a rate at which they converge, all neurons to one direction.
A smaller rate scores more, since it leaves more of the random start. Backpropagation learns the
same shapes with ReLU for ten epochs and with its own classifier. The formulas are in
[rules.md](rules.md). Figures of layers are in the order of the layers. The delta rule learns in
the place of the classifier, for as many epochs; it is softmax regression. Its rate falls to 0 and
is the best of three on held-out training images. The last row is the perceptron of Krotov and
Hopfield: 200 epochs in batches of 100, a rate that falls from 0.02 to 0, filters that start from
N(0, 1), and a power of 4.5. Images are divided by their length, since powers of bright ones
outweigh all others. Its classifier is softmax regression (`--classifier softmax`) instead of the
published tanh and sixth power of the error.""",
    (
        *(
            cell
            for dataset in SETS
            for layers, net in NETS.items()
            for cell in _cells(dataset, layers, net)
        ),
        *(cell for dataset in SETS for cell in _on_pixels(dataset)),
        KROTOV,
    ),
    {
        "test_accuracy": "test %",
        "train_accuracy": "train %",
        "norm_mean": "norms",
        "distinct_filters": "distinct filters",
        "winner_entropy": "entropy of the wins",
    },
    verdict="target reached",
)
