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
    print(f"every public name of {NAME} has a known type, and users' programs are checked by them")


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
    """The public names whose type is unknown or a guess, and why; those of ``UNTYPED`` with one."""
    report = pyright(environment, folder, "--ignoreexternal", "--verifytypes", NAME)
    symbols = report["typeCompleteness"]["symbols"]
    if not symbols:
        raise SystemExit(f"pyright found no public name in {NAME}")
    lacking = {
        symbol["name"]: [
            d["message"] for d in symbol["diagnostics"] if "docstring" not in d["message"]
        ]
        for symbol in symbols
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    }
    told = [f"{name}: {why}" for name in lacking.keys() - UNTYPED for why in lacking[name]]
    told += [f"{name} has no known type" for name in lacking.keys() - UNTYPED if not lacking[name]]
    told += [f"{name} has a type: UNTYPED must not hold it" for name in UNTYPED - lacking.keys()]
    return sorted(told)


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
