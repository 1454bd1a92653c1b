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

# The rooms from the bottom to the top: each may know of those before it alone.
ORDER = (
    "lazy",
    "environment",
    "naming",
    "files",
    "sealed",
    "kinds",
    "scalars",
    "options",
    "reference",
    "checks",
    "extension",
    "precision",
    "kernels",
    "ops",
    "backends",
    "functional",
    "init",
    "optim",
    "nn",
    "presets",
    "data",
    "models",
    "training",
    "pretrained",
    "sklearn",
    "pictures",
    "plots",
    "bench",
    "search",
    "experiments",
    "cli",
)
# What a room must not know of though it lies below.
APART = {
    "kernels": {"checks", "extension"},
    "functional": {"files"},
    "presets": {"nn", "functional"},
    "data": {"nn", "functional", "presets"},
    "plots": {"cli"},
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


def known_files(path: Path) -> set[Path]:
    """The files that a file imports itself; a package's own file stands for nothing else in it."""
    found = set()
    for name in imported(path):
        root, *parts = name.split(".")
        if root != NAME:
            continue
        for length in range(len(parts), 0, -1):
            place = PACKAGE.joinpath(*parts[:length])
            if place.with_suffix(".py").exists() or (place / "__init__.py").exists():
                single = place.with_suffix(".py")
                found.add(single if single.exists() else place / "__init__.py")
                break
    return found


@pytest.mark.parametrize("room", ORDER)
def test_dependencies_point_one_way(room):
    assert files(room)
    above = set(ORDER[ORDER.index(room) + 1 :]) | APART.get(room, set())
    for path in files(room):
        known = rooms(path) & above
        assert not known, f"{path.relative_to(PACKAGE)} imports {sorted(known)}"


def test_every_room_has_its_place():
    here = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files("*")}
    assert here - {"__init__", "__main__"} == set(ORDER)


def test_no_file_imports_itself_in_a_circle():
    left = {path: {other for other in known_files(path) if other != path} for path in files("*")}
    while left:
        free = [path for path, known in left.items() if not known & left.keys()]
        assert free, f"a circle among {sorted(str(p.relative_to(PACKAGE)) for p in left)}"
        for path in free:
            del left[path]


def test_nothing_imports_the_command_but_its_entry():
    outside = (path for path in files("*") if PACKAGE / "cli" not in path.parents)
    entry = [path.name for path in outside if "cli" in rooms(path)]
    assert entry == ["__main__.py"]


def test_imports_are_found():
    assert {"functional", "init", "optim", "nn"} <= rooms(PACKAGE / "__init__.py")
    assert f"{NAME}.presets.types.Layer" in imported(PACKAGE / "presets" / "scale.py")
    loop = set(imported(PACKAGE / "training" / "loop.py"))
    assert {f"{NAME}.training.checkpoint", f"{NAME}.data.permutation"} <= loop


def test_only_the_command_prints():
    printing = set()
    for path in files("*"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "print":
                    printing.add(path.parent.name)
            elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                assert path.parent.name == "cli", f"{path} writes to the terminal"
    assert printing == {"cli"}


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


@pytest.mark.parametrize("room", ["", "pretrained", "training"])
def test_type_checkers_see_the_names_that_are_imported_when_asked_for(room):
    module = importlib.import_module(f"{NAME}.{room}".rstrip("."))
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    [block] = (n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name))
    seen = {a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == {*module.__all__, *getattr(module, "ROOMS", ())}


def test_importing_takes_no_plotting_and_no_kernel_compiler():
    code = f"import sys, {NAME}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert NAME in found
    for heavy in ("torch", "triton", "matplotlib", f"{NAME}.cli"):
        assert heavy not in found


def test_version_is_that_of_the_distribution():
    project = Path(__file__).parents[1] / "pyproject.toml"
    declared = tomllib.loads(project.read_text(encoding="utf-8"))
    assert declared["project"]["name"] == NAME
    assert declared["project"]["dynamic"] == ["version"]
    taken_from = declared["tool"]["setuptools"]["dynamic"]["version"]
    assert taken_from == {"attr": f"{NAME}.__version__"}
    assert softhebb_fast.__version__
