"""The cost model of training in several processes: bytes sent a step, beside its computing.

    python -m benchmarks.processes.model         # results/processes_model.csv, and tables

Everything here is computed. Sizes and products are counted from the layers. Seconds follow from the
rates below, which are assumed, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from softhebb_fast.files import write_csv
from softhebb_fast.presets import get_preset, protocol

TABLE = Path(__file__).parents[1] / "results" / "processes_model.csv"
NETS = {
    "4SoftHebbCnnCIFAR": ("cifar10", (3, 32, 32), 10),
    "5SoftHebbCnnSTL": ("stl10", (3, 96, 96), 10),
    "6SoftHebbCnnImNet": ("imagenet", (3, 160, 160), 1000),
}
BATCHES = (128, 1024, 8192)  # beside the published one
SIZES = (1, 2, 4, 8, 16, 32, 64)
MACHINE = 8  # GPUs in one

RATE = 100e12  # operations a second of a GPU on matrix products
LEAST = 60e-6  # seconds of a step however small: its launches
WITHIN, BETWEEN = (300e9, 5e-6), (40e9, 10e-6)  # bytes a second and seconds a hop


class Sent(NamedTuple):
    """One message of a step.

    Attributes:
        size: bytes that all processes add up.
        count: messages of that size.
    """

    size: int
    count: int = 1


@dataclass(frozen=True)
class LayerCost:
    """A layer, or a classifier, that learns.

    Attributes:
        net, layer: which, the layers counted from 1, or ``"classifier"``.
        batch: the published one.
        operations: of the matrix products of one image: forward and update.
        sent: what a step sends.
    """

    net: str
    layer: str
    batch: int
    operations: int
    sent: tuple[Sent, ...]

    @property
    def bytes(self) -> int:
        return sum(message.size * message.count for message in self.sent)

    def seconds(self, batch: int, processes: int) -> float:
        """A step in so many processes: the largest part computed, then its messages."""
        part = -(-batch // processes)
        return max(LEAST, part * self.operations / RATE) + self.waiting(processes)

    def waiting(self, processes: int) -> float:
        """The messages of a step, none hidden behind the computing."""
        return sum(m.count * all_reduce(m.size, processes) for m in self.sent)


def all_reduce(size: int, processes: int) -> float:
    """Seconds of an all-reduce of ``size`` bytes: what each sends at the slowest link, and hops."""
    if processes == 1:
        return 0.0
    rate, hop = WITHIN if processes <= MACHINE else BETWEEN
    return 2 * (processes - 1) / processes * size / rate + 2 * math.log2(processes) * hop


def layers(net: str) -> Iterator[LayerCost]:
    """The layers of a network of ``NETS``, and its classifier."""
    dataset, (channels, size, _), classes = NETS[net]
    published, preset = protocol(dataset), get_preset(net)
    for number, layer in enumerate(preset.layers[:-1], 1):
        size = (size + 2 * layer.padding - layer.kernel) // layer.stride + 1
        weights = layer.out * channels // layer.groups * layer.kernel**2
        moments = (Sent(8 * (2 * channels + 1)),) if layer.batch_norm else ()
        cost = 2 * 2 * size * size * weights
        yield LayerCost(
            net, str(number), published.unsup_batch, cost, (*moments, Sent(4 * weights))
        )
        channels = layer.out
        if layer.pool is not None:
            pool = layer.pool
            size = (size + 2 * pool.padding - pool.kernel) // pool.stride + 1
    weights = classes * channels * size**2
    sent = (Sent(4 * (weights + classes + 2)),)  # with biases, loss and correct answers
    # forward, and the gradient of the weights: nothing below needs one
    yield LayerCost(net, "classifier", published.probe_batch, 2 * 2 * weights, sent)


def most(cost: LayerCost, batch: int) -> int:
    """The largest number of processes of ``SIZES`` that makes a step a tenth shorter than half as
    many do; 1 if two do not."""
    found = 1
    for size in SIZES[1:]:
        if cost.seconds(batch, size) > 0.9 * cost.seconds(batch, size // 2):
            break
        found = size
    return found


def rows() -> Iterator[dict[str, object]]:
    for net in NETS:
        for cost in layers(net):
            for batch in (cost.batch, *BATCHES):
                for size in SIZES:
                    yield {
                        **{"net": net, "layer": cost.layer, "batch": batch, "processes": size},
                        "bytes": cost.bytes if size > 1 else 0,
                        "operations": cost.operations * -(-batch // size),
                        "messages_us": f"{1e6 * cost.waiting(size):.4g}",
                        "step_us": f"{1e6 * cost.seconds(batch, size):.4g}",
                        "speedup": f"{cost.seconds(batch, 1) / cost.seconds(batch, size):.3g}",
                    }


def tables() -> str:
    """What the page shows, in Markdown."""
    heads = ("network, layer", "sent a step", "operations an image", "operations a byte")
    batches = (f"batch {b}" for b in ("published", *BATCHES))
    lines = [_row(heads), "|---" * len(heads) + "|"]
    pays = [_row(("network, layer", *batches)), "|---" * (2 + len(BATCHES)) + "|"]
    for net in NETS:
        for cost in layers(net):
            name = f"{net}, {cost.layer}"
            intense = cost.operations * cost.batch / cost.bytes
            operations = f"{cost.operations / 1e6:,.0f} M"
            lines.append(_row((name, _size(cost.bytes), operations, f"{intense:,.0f}")))
            cells = []
            for batch in (cost.batch, *BATCHES):
                size = most(cost, batch)
                faster = cost.seconds(batch, 1) / cost.seconds(batch, size)
                cells.append("1" if size == 1 else f"{size} ({faster:.1f} x)")
            pays.append(_row((name, *cells)))
    return "\n".join([*lines, "", *pays])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def main() -> None:
    found = list(rows())
    write_csv(TABLE, tuple(found[0]), found)
    print(tables())


if __name__ == "__main__":
    main()
