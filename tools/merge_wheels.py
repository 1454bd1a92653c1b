"""Makes one wheel of several that differ in the torch that their kernels were compiled against.

    python tools/merge_wheels.py OUT_FOLDER WHEEL WHEEL ...

Needs the package wheel. Prints the path of the new file.
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = "_C_torch*.so"


def main(out: str, *wheels: str) -> None:
    names = {Path(wheel).name for wheel in wheels}
    if len(names) != 1:
        raise SystemExit(f"the wheels must have one name: version and platform; got {names}")
    with tempfile.TemporaryDirectory() as scratch:
        trees = [unpack(wheel, Path(scratch, str(i))) for i, wheel in enumerate(wheels)]
        first = trees[0]
        for tree in trees[1:]:
            every = sorted(contents(first) | contents(tree))
            _, changed, absent = filecmp.cmpfiles(first, tree, every, shallow=False)
            if changed or absent:
                raise SystemExit(f"the wheels differ in {', '.join(changed + absent)}")
        for tree in trees[1:]:
            for library in tree.rglob(KERNELS):
                shutil.copy2(library, first / library.relative_to(tree))
        Path(out).mkdir(parents=True, exist_ok=True)
        run("pack", str(first), "--dest-dir", out)
    print(Path(out, names.pop()))


def unpack(wheel: str, folder: Path) -> Path:
    """The wheel's own folder in ``folder``."""
    run("unpack", wheel, "--dest", str(folder))
    return next(folder.iterdir())


def contents(tree: Path) -> set[str]:
    """All files but kernels and the list of files, which the new wheel gets anew."""
    files = (path for path in tree.rglob("*") if path.is_file())
    kept = (path for path in files if not path.match(KERNELS) and path.name != "RECORD")
    return {str(path.relative_to(tree)) for path in kept}


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "wheel", *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
