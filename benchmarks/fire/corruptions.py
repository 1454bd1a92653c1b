"""Damage every file that the product reads, many times, and see what it makes of that.

python -m benchmarks.fire.corruptions --times 2000 --out benchmarks/results/corruptions.csv

A damaged file must be refused with a message that names it or its folder, or give the very same
result. It must never give another result, end in another error, or have code run.
"""

from __future__ import annotations

import faulthandler
import hashlib
import random
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.fire import record
from benchmarks.fire.damage import DAMAGES, trap
from benchmarks.fire.targets import Target, targets

OUTCOMES = ("refused", "same", "part", "another meaning")
FAULTS = ("another result", "unclear error", "wrong error", "code was run")
COLUMNS = ("file", "damage", "times", *OUTCOMES, *FAULTS, "seed", "commit", "torch")
FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


class Watch:
    """Hears what Python does while a damaged file is read."""

    def __init__(self) -> None:
        self.on, self.heard = False, []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.on and event in FORBIDDEN:
            self.heard.append((event, arguments))


def read_whole(target: Target) -> Any:
    """What ``target`` gives as it is; reading may add to it."""
    kept = target.path.read_bytes()
    found = target.read()
    target.path.write_bytes(kept)
    return found


def tried(target: Target, damaged: bytes, whole: Any, watch: Watch, sprung: Path) -> str:
    """What becomes of ``target`` with the bytes ``damaged``, in a word; then it is mended."""
    kept = target.path.read_bytes()
    target.path.write_bytes(damaged)
    watch.heard.clear()
    watch.on = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".* is ignored, it holds no launch")
            found = target.read()
    except (ValueError, UserWarning) as error:
        names = (target.path.name, str(target.path.parent), *target.named)
        told = any(name in str(error) for name in names)
        outcome = "refused" if told else f"unclear error: {error!r}"
    except Exception as error:
        outcome = f"wrong error: {error!r}"
    else:
        if digest(found) == digest(whole):
            outcome = "same"
        elif target.part is not None and target.part(whole, found):
            outcome = "part"
        else:
            outcome = "another meaning" if target.open else "another result"
    finally:
        watch.on = False
        target.path.write_bytes(kept)
    if watch.heard or sprung.exists():
        return f"code was run: {watch.heard}"
    return outcome


def digest(value: Any) -> str:
    """Of a value of plain values and tensors, to the last bit."""
    found = hashlib.blake2b(digest_size=16)

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            found.update(repr((part.dtype, part.shape)).encode())
            found.update(part.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(part, dict):
            add(list(part.items()))
        elif isinstance(part, list | tuple):
            found.update(f"({len(part)}".encode())
            for each in part:
                add(each)
        else:
            found.update(repr(part).encode() + b",")

    add(value)
    return found.hexdigest()


def corrupt(times: int, seed: int, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the table, and a line for every fault: which file, which damage, what came."""
    rng, watch, sprung = random.Random(seed), Watch(), folder / "sprung"
    every = targets(folder)
    wholes = [read_whole(target) for target in every]
    kinds = list(dict.fromkeys(target.kind for target in every))
    files = {kind: [i for i, t in enumerate(every) if t.kind == kind] for kind in kinds}
    damages = [*DAMAGES, "trap"]
    counts: dict[tuple[str, str], Counter[str]] = {}
    faults = []
    for number in range(times):
        kind = kinds[number % len(kinds)]
        name = damages[number // len(kinds) % len(damages)]
        i = rng.choice(files[kind])
        data = every[i].path.read_bytes()
        damaged = trap(sprung) if name == "trap" else DAMAGES[name](data, rng)
        outcome = tried(every[i], damaged, wholes[i], watch, sprung)
        if (short := outcome.partition(":")[0]) in FAULTS:
            faults.append(f"{number}: {every[i].path.name} ({kind}), {name}: {outcome}")
        counts.setdefault((kind, name), Counter())[short] += 1
    made_by = record.made_by(seed=seed)
    rows = [
        {"file": kind, "damage": name, "times": found.total(), **found, **made_by}
        for (kind, name), found in sorted(counts.items(), key=lambda item: kinds.index(item[0][0]))
    ]
    return rows, faults


def main() -> int:
    parser = record.options(
        __doc__, 2000, "corruptions in all", "what was tried and what became of it"
    )
    options = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows, faults = corrupt(options.times, options.seed, Path(folder))
    if options.out:
        record.keep(options.out, COLUMNS, rows)
    for fault in faults:
        print(fault)
    print(record.summed(rows, ("times", *OUTCOMES, *FAULTS)))
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
