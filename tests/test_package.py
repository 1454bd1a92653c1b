from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import softhebb_fast

PACKAGE = Path(softhebb_fast.__file__).parent
NAME = PACKAGE.name

# What each room must not know of; a name stands for the room and everything in it.
ABOVE_FUNCTIONAL = {"nn", "models", "training", "stages", "probe", "data", "presets", "cli", "runs"}
ABOVE_NN = ABOVE_FUNCTIONAL - {"nn"}
RULES = {
    "reference": ABOVE_FUNCTIONAL | {"functional"},
    "checks": ABOVE_FUNCTIONAL | {"functional"},
    "functional": ABOVE_FUNCTIONAL | {"optim", "init"},
    "kernels": ABOVE_FUNCTIONAL,
    "diversity": ABOVE_FUNCTIONAL | {"init"},
    "init": ABOVE_FUNCTIONAL,
    "optim": ABOVE_FUNCTIONAL,
    "nn": ABOVE_NN,
    "presets": {"nn", "models", "training", "functional", "data"},
    "data": {"nn", "models", "training", "functional", "presets"},
    "models": {"training", "stages", "probe", "runs", "cli"},
    "probe": {"training", "stages", "runs", "cli"},
    "training": {"cli", "plots", "info", "bench"},
    "bench": {"cli"},
    "plots": {"cli", "training"},
}


def files(room: str) -> list[Path]:
    if room == "*":
        return sorted(PACKAGE.rglob("*.py"))
    single = PACKAGE / f"{room}.py"
    return [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of everything of this package that a file imports."""
    here = (NAME, *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level + 1]) if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path))
    return {part[1] for part in parts if part[0] == NAME and len(part) > 1}


@pytest.mark.parametrize("room", RULES)
def test_dependencies_point_one_way(room):
    assert files(room) or room == "kernels"
    for path in files(room):
        known = rooms(path) & RULES[room]
        assert not known, f"{path.relative_to(PACKAGE)} imports {sorted(known)}"


def test_nothing_imports_the_command_but_its_entry():
    entry = [path.name for path in files("*") if "cli" in rooms(path)]
    assert entry == ["__main__.py"]


def test_imports_are_found():
    assert {"functional", "init", "optim", "nn"} <= rooms(PACKAGE / "__init__.py")
    assert f"{NAME}.presets.types.Layer" in imported(PACKAGE / "presets" / "scale.py")
    assert {"checkpoint", "models", "probe"} <= rooms(PACKAGE / "training.py")


def test_only_the_command_prints():
    printing = set()
    for path in files("*"):
        if path.parent.name == "commands":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "print":
                    printing.add(path.name)
            elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                assert path.name in ("cli.py", "progress.py"), f"{path} writes to the terminal"
    assert printing == {"cli.py"}


def test_user_errors_are_not_asserted():
    for path in files("*"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not asserts, f"{path.relative_to(PACKAGE)} asserts in lines {asserts}"


def test_public_names_exist():
    assert len(set(softhebb_fast.__all__)) == len(softhebb_fast.__all__)
    for name in softhebb_fast.__all__:
        assert getattr(softhebb_fast, name) is not None
    star: dict = {}
    exec(f"from {NAME} import *", star)
    assert set(softhebb_fast.__all__) <= star.keys()


@pytest.mark.parametrize("room", ["data", "functional", "nn", "optim", "presets"])
def test_public_names_of_the_rooms_exist(room):
    module = importlib.import_module(f"{NAME}.{room}")
    assert module.__all__
    for name in module.__all__:
        assert hasattr(module, name), f"{NAME}.{room} lacks {name}"


def test_importing_takes_no_plotting_and_no_kernel_compiler():
    code = f"import sys, {NAME}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert NAME in found
    for heavy in ("triton", "matplotlib", f"{NAME}.cli"):
        assert heavy not in found


def test_version_is_that_of_the_distribution():
    project = Path(__file__).parents[1] / "pyproject.toml"
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    assert (declared["name"], declared["version"]) == (NAME, softhebb_fast.__version__)
