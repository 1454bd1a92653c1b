"""What is timed: every Hebbian layer of the published networks, whole steps, and families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from math import prod

from softhebb_fast.checks import output_size
from softhebb_fast.kinds import RULES, RuleKind
from softhebb_fast.options import RULE, Competition, Convolution, Rule
from softhebb_fast.presets import Layer, Preset, get_preset

FLOAT = 4
BATCHES = (1, 10, 32, 100, 1000)
# the name of a network here: its preset, and its images (C, H, W)
NETWORKS = {
    "cifar10": ("4SoftHebbCnnCIFAR", (3, 32, 32)),
    "mnist": ("4SoftHebbCnnZerOMNIST", (1, 28, 28)),
    "mnist-128": ("2SoftHebbZerOMNIST", (1, 28, 28)),
    "mnist-mlp": ("2SoftMlpMNIST", (1, 28, 28)),
    "stl10": ("5SoftHebbCnnSTL", (3, 96, 96)),
    "imagenet": ("6SoftHebbCnnImNet", (3, 160, 160)),
}
QUICK = ("cifar10/step/b10", "cifar10/layer[13]/b10", "mnist-mlp/step/b32")
STANDARD = (
    "cifar10/step/b10",
    "cifar10/step/b100",
    "mnist/step/b32",
    "mnist-128/step/b32",
    "mnist-mlp/step/b32",
    "cifar10/layer?/b10",
    "mnist/layer?/b32",
    "stl10/layer[12]/b10",
    "imagenet/layer[12]/b10",
    "cifar10/probe/b64",
)

# Any rule stays finite over the calls of a timing; a step costs the same at every rate.
CALM = {"lr": 1e-6, "radius": 1.0}


@dataclass(frozen=True)
class Part:
    """A Hebbian layer of a network, the shape (C, H, W) of what reaches it, and a name of
    ``kinds.RULES``: with another rule than SoftHebb's, ``layer.rule`` counts for nothing."""

    layer: Layer
    shape: tuple[int, int, int]
    rule: str = "softhebb"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        channels, *size = self.shape
        if self.layer.kind == "linear":
            return self.layer.out, channels * prod(size)
        return self.layer.out, channels // self.layer.groups, self.layer.kernel, self.layer.kernel

    @property
    def convolution(self) -> Convolution:
        layer = self.layer
        pairs = ((n, n) for n in (layer.stride, layer.padding, layer.dilation))
        return Convolution(*pairs, layer.groups, layer.padding_mode, layer.pre_triangle)

    @property
    def kind(self) -> RuleKind:
        return RULES[self.rule]

    @property
    def competition(self) -> Competition:
        layer, wta = self.layer, self.kind.wta or ("soft" if self.rule == "instar" else None)
        numbers = (layer.delta, layer.rank, layer.lebesgue_p)
        found = Competition(layer.t_invert, wta or layer.rule, *numbers)
        return found._replace(**self.kind.competition)

    @property
    def plasticity(self) -> Rule:
        """The rule in the form that backends take, without tensors."""
        return RULE if self.rule == "softhebb" else Rule.of(self.rule)

    @property
    def lr_power(self) -> float:
        return self.layer.lr_power if self.rule == "softhebb" else self.kind.lr_power

    @property
    def map(self) -> tuple[int, int]:
        """Rows and columns of u; 1 and 1 for a linear layer."""
        if self.layer.kind == "linear":
            return 1, 1
        pairs = (self.layer.kernel, self.layer.stride, self.layer.padding, self.layer.dilation)
        return output_size(self.shape[1:], *((n, n) for n in pairs))

    @property
    def output(self) -> tuple[int, int, int]:
        """What the layer's block passes on, (C, H, W)."""
        size, pool = self.map, self.layer.pool
        if pool is not None:
            pairs = (pool.kernel, pool.stride, pool.padding)
            size = output_size(size, *((n, n) for n in pairs))
        return self.layer.channels, *size

    @property
    def patch(self) -> int:
        """Weights of one neuron."""
        return prod(self.weight_shape[1:])

    def flops(self, batch: int) -> int:
        """Of the two matrix products of a learning step, two a multiplication."""
        return 4 * batch * prod(self.map) * self.layer.out * self.patch


@dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes:
        name: ``NETWORK/WHAT/bBATCH``.
        kind: ``"layer"``, a Hebbian layer alone: u, and the weights stepped in place;
            ``"step"``, one unsupervised step of a network: batch norm, layer, activation and
            pool of every block; ``"probe"``, a step of the classifier; a phase of a run, timed a
            step at a time: ``"learn"``, ``"features"``, ``"features_of_test"``, ``"classify"``,
            ``"evaluate"``.
        parts: the Hebbian layers, from the bottom.
        batch: samples a call.
        calls: how many calls the figures stand for: they are measured for one and multiplied.
        own_calls: the same for this package, where it differs.
        min_calls: calls in a sample at least.
        trained: of a phase: the block that learns, or up to which features are computed.
        classes, dropout: of the classifier, where there is one.
        turn: cases that share this are compared: their samples are taken by turns.
    """

    name: str
    kind: str
    parts: tuple[Part, ...]
    batch: int
    calls: int = 1
    own_calls: int = 0
    min_calls: int = 1
    trained: int = 0
    classes: int = 10
    dropout: float = 0.5
    turn: str = ""

    @property
    def network(self) -> str:
        return self.name.split("/")[0]

    @property
    def rules(self) -> set[str]:
        return {part.rule for part in self.parts}

    @property
    def features(self) -> int:
        """Inputs of the classifier on top."""
        return prod(self.parts[-1].output)

    @property
    def flops(self) -> int:
        """Of the matrix products in one call."""
        match self.kind:
            case "layer" | "step":
                return sum(part.flops(self.batch) for part in self.parts)
            case "learn":
                return self.parts[self.trained].flops(self.batch)
            case "probe" | "classify":
                return 4 * self.batch * self.features * self.classes
        return 0

    @property
    def bytes(self) -> int:
        """An estimate of what the hungriest provider allocates, for deciding what fits."""
        if self.kind not in ("layer", "step", "probe"):
            return 3 << 30
        if self.kind == "probe":
            return FLOAT * self.features * (PROBE_ROWS + 6 * self.batch)
        total = 0
        for part in self.parts:
            u = self.batch * prod(part.map) * part.layer.out
            x = self.batch * prod(part.shape)
            patches = self.batch * prod(part.map) * part.patch
            total += FLOAT * (3 * x + 6 * prod(part.weight_shape) + max(9 * u, u + patches))
        return total


STRETCH = 40  # steps of a phase in a sample: 200 in the five samples there are at least
CHUNK = 500  # images whose features are computed together
PROBE_ROWS = 4096  # rows of the features that a probe draws from: more than any cache holds


@cache
def registry() -> dict[str, Case]:
    """All cases by name."""
    return {case.name: case for case in _cases()}


def select(patterns: Iterable[str]) -> list[Case]:
    """The cases whose names match any of the shell patterns, in the order of the patterns.

    Raises ValueError for a pattern that matches none.
    """
    cases = registry()
    found: dict[str, Case] = {}
    for pattern in patterns:
        matching = {name: case for name, case in cases.items() if fnmatchcase(name, pattern)}
        if not matching:
            raise ValueError(
                f"CASES must match a case, got {pattern!r}; `softhebb-fast bench --list` shows them"
            )
        found |= matching
    return list(found.values())


def parts(preset: Preset, shape: tuple[int, int, int]) -> tuple[Part, ...]:
    """The Hebbian layers of ``preset`` on images of that shape."""
    found = []
    for layer in preset.layers:
        if not layer.hebbian:
            break
        found.append(Part(layer, shape))
        shape = found[-1].output
    return tuple(found)


def _cases() -> Iterator[Case]:
    for network, (preset, shape) in NETWORKS.items():
        stack = parts(get_preset(preset), shape)
        for batch in BATCHES:
            for number, part in enumerate(stack, start=1):
                yield Case(f"{network}/layer{number}/b{batch}", "layer", (part,), batch)
        for batch in BATCHES:
            yield Case(f"{network}/step/b{batch}", "step", stack, batch)
    for network in ("cifar10", "mnist"):
        stack = parts(get_preset(NETWORKS[network][0]), NETWORKS[network][1])
        batch = 64 if network == "cifar10" else 32
        yield Case(f"{network}/probe/b{batch}", "probe", stack, batch)
    yield from _run()
    yield from _scaling()
    yield from _rules()


def _run() -> Iterator[Case]:
    """The phases of a CIFAR-10 run: 50,000 images, 10,000 of the test set."""
    stack = parts(get_preset(NETWORKS["cifar10"][0]), NETWORKS["cifar10"][1])
    for i in range(len(stack)):
        phase = {"calls": 5000, "min_calls": STRETCH, "trained": i}
        yield Case(f"cifar10/run/layer{i + 1}", "learn", stack, 10, **phase)
    for i in range(1, len(stack) + 1):
        chunks = 50_000 // CHUNK
        yield Case(f"cifar10/run/features{i}", "features", stack, CHUNK, calls=chunks, trained=i)
    chunks = 10_000 // CHUNK
    yield Case("cifar10/run/features-test", "features_of_test", stack, CHUNK, calls=chunks)
    steps = 50 * -(-50_000 // 64)
    yield Case("cifar10/run/probe", "classify", stack, 64, calls=steps, min_calls=STRETCH)
    yield Case("cifar10/run/test", "evaluate", stack, 1000, calls=6 * 10, own_calls=50 * 10)


def _scaling() -> Iterator[Case]:
    """One quantity grows, all else is as in the middle layer of the CIFAR-10 net at batch 10."""
    net = get_preset(NETWORKS["cifar10"][0])
    middle = parts(net, NETWORKS["cifar10"][1])[1]
    for batch in (1, 2, 5, 10, 20, 50, 100, 200):
        yield Case(f"scaling/batch/{batch}", "layer", (middle,), batch)
    for width in (24, 48, 96, 192, 384, 768, 1536):
        part = Part(replace(middle.layer, out=width), middle.shape)
        yield Case(f"scaling/width/{width}", "layer", (part,), 10)
    for size in (4, 8, 16, 32, 64):
        part = Part(middle.layer, (middle.shape[0], size, size))
        yield Case(f"scaling/size/{size}", "layer", (part,), 10)
    same = replace(middle.layer, out=middle.shape[0], pool=None)
    for depth in (1, 2, 4, 8):
        yield Case(f"scaling/depth/{depth}", "step", (Part(same, middle.shape),) * depth, 10)


def _rules() -> Iterator[Case]:
    """Every rule in the place of SoftHebb's, each layer of the CIFAR-10 net by itself."""
    stack = parts(get_preset(NETWORKS["cifar10"][0]), NETWORKS["cifar10"][1])
    for rule in RULES:
        for batch in (10, 100):
            for number, part in enumerate(stack, start=1):
                layer = part.layer if rule == "softhebb" else replace(part.layer, **CALM)
                own = replace(part, layer=layer, rule=rule)
                what = f"layer{number}/b{batch}"
                turn = f"rules/*/{what}"
                yield Case(f"rules/{rule}/{what}", "layer", (own,), batch, turn=turn)
