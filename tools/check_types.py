"""Checks the types that the package shows to those who use it, with pyright.

    python tools/check_types.py

Needs the package basedpyright, which has pyright's program in it. The public names must all have a
known type, but for those of ``UNTYPED``. Then the programs of tests/users_code/typed are checked in
strict mode: ``right.py`` must have no error, ``wrong.py`` those that it says. Exits with 1 and the
places where it is otherwise.

Pyright counts for installed packages alone, so a copy of the package is put into an environment of
its own, which finds everything else where this interpreter does.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

NAME = "softhebb_fast"
ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "users_code" / "typed"
NOTHING, FOLLOWS = "No docstring", "is partially unknown"  # messages of no use here
# Their bases are classes of scikit-learn, which has no types.
UNTYPED = {
    "softhebb_fast.sklearn.HebbianClassifier",
    "softhebb_fast.sklearn.HebbianFeatures",
    "softhebb_fast.sklearn.classifier.HebbianClassifier",
    "softhebb_fast.sklearn.classifier.HebbianClassifier.features_",
    "softhebb_fast.sklearn.features.HebbianFeatures",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        environment = installed(Path(scratch, "environment"))
        programs = Path(shutil.copytree(PROGRAMS, Path(scratch, "programs")))
        found = [*without_type(environment, programs), *errors(environment, programs)]
    if found:
        raise SystemExit("\n".join(found))
    print(f"all public names of {NAME} have types but {len(UNTYPED)}; the programs are as they say")


def installed(folder: Path) -> dict[str, str]:
    """The environment variables of a virtual environment with a copy of the package."""
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    known = (path for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    (packages / "others.pth").write_text("\n".join(known), encoding="utf-8")
    shutil.copytree(
        ROOT / NAME, packages / NAME, ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "VIRTUAL_ENV": str(folder), "PATH": path}


def without_type(environment: dict[str, str], folder: Path) -> list[str]:
    """Why public names have an unknown type or one to be guessed, and which; and those of
    ``UNTYPED`` that have one."""
    report = pyright(environment, folder, "--ignoreexternal", "--verifytypes", NAME)
    symbols = report["typeCompleteness"]["symbols"]
    if not symbols:
        raise SystemExit(f"pyright found no public name in {NAME}")
    lacking = {
        symbol["name"]: [d["message"] for d in symbol["diagnostics"] if NOTHING not in d["message"]]
        for symbol in symbols
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    }
    wrong = {name: why for name, why in lacking.items() if name not in UNTYPED}
    told = [f"{name}: {one}" for name, why in wrong.items() for one in why if FOLLOWS not in one]
    if wrong:
        told.append(f"names without a known type, with those that follow: {', '.join(wrong)}")
    told += [f"{name} has a type: UNTYPED must not hold it" for name in UNTYPED - lacking.keys()]
    return told


def errors(environment: dict[str, str], programs: Path) -> list[str]:
    """What pyright finds in the programs."""
    report = pyright(environment, programs)
    if report["summary"]["filesAnalyzed"] < 2:
        raise SystemExit(f"pyright found no programs in {PROGRAMS}")
    return [
        f"{PROGRAMS.relative_to(ROOT) / Path(error['file']).name}:"
        f"{error['range']['start']['line'] + 1}: {error['message']}"
        for error in report["generalDiagnostics"]
    ]


def pyright(environment: dict[str, str], folder: Path, *options: str) -> dict[str, Any]:
    """What pyright says in ``folder``, with the interpreter of ``environment``."""
    command = [sys.executable, "-m", "basedpyright", "--outputjson", *options]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"pyright failed: {done.stdout}{done.stderr}") from None


if __name__ == "__main__":
    main()
