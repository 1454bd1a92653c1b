"""The bits of the public calls: recorded at one commit, compared with those of another.

    python -m benchmarks.cpu.bits record before.json     # some minutes
    python -m benchmarks.cpu.bits compare before.json after.json

For a change that must leave every number alone. Options, sizes, dtypes and memory layouts are drawn
from a seed. Every case keeps a digest of what it computes, by place and not by name. Digests hold
for one machine and one version of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cpu.calls import KINDS


def record() -> dict[str, str]:
    """A digest of every case, by its name."""
    torch.set_num_threads(2)
    found = {}
    for kind in KINDS:
        torch.manual_seed(0)
        for name, result in kind():
            found[f"{kind.__name__}/{name}"] = digest(result)
    return found


def digest(result: object) -> str:
    """Of all tensors and plain values in a nest of tuples, lists and dicts."""
    whole = hashlib.blake2b(digest_size=12)

    def feed(value: object) -> None:
        if isinstance(value, Tensor):
            whole.update(f"{value.dtype} {tuple(value.shape)} {value.stride()}".encode())
            plain = value.detach().contiguous().reshape(-1)
            whole.update(plain.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key, one in value.items():
                whole.update(str(key).encode())
                feed(one)
        elif isinstance(value, tuple | list):
            whole.update(f"[{len(value)}".encode())
            for one in value:
                feed(one)
        else:
            whole.update(repr(value).encode())

    feed(result)
    return whole.hexdigest()


def compare(before: Path, after: Path) -> int:
    """Say which cases differ, or are in one of the files alone; 1 if there are such."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    different = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    print(
        f"{len(old)} and {len(new)} cases, {len(different)} of them differ", *different, sep="\n  "
    )
    return int(bool(different))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("file", type=Path)
    two = commands.add_parser("compare")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.before, options.after)
    found = record()
    options.file.write_text(json.dumps(found, indent=0) + "\n")
    print(f"{len(found)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
