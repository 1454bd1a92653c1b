"""What the pages say is true of the code: programs run, commands parse, tables are whole."""

from __future__ import annotations

import argparse
import pkgutil
import re
from inspect import ismodule
from pathlib import Path

import pytest

from softhebb_fast import kinds, optim
from softhebb_fast.cli.parser import make_parser
from softhebb_fast.environment import VARIABLES
from softhebb_fast.init import FROM_DATA, INITS
from softhebb_fast.kinds import PADDING_MODES, TIE_RULES, WTA
from softhebb_fast.models.softhebb import ACTIVATIONS
from softhebb_fast.presets import PRESETS, parse_network
from softhebb_fast.presets.grammar import KEYS, METHODS, OPERATIONS, WHITENING_KEYS
from softhebb_fast.presets.types import DEFAULTS, RULES
from tests.docs.blocks import DOCS, ROOT, blocks, commands, run

PROGRAMS = ("index.md", "backends.md", "guide.md", "layer_strings.md", "rules.md")
PAGES = sorted(DOCS.rglob("*.md"))
PACKAGE = ROOT / "softhebb_fast"
# What programs of others have no use for.
PRIVATE = {"checks", "cli", "environment", "extension", "files", "kernels", "naming"}
PRIVATE |= {"lazy", "ops", "scalars", "sealed"}


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_programs_of_a_page_run_and_say_what_comes_out(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    programs = list(blocks(DOCS / page, "python"))
    assert programs
    wrong = [fault for program in programs for fault in run(program, names)]
    assert not wrong


def test_a_value_that_a_page_gets_wrong_is_found():
    assert run("x = 2\nx + 1    # 3\nx          # anything", {}) == []
    assert run("2 + 2    # 5", {}) == ["2 + 2 is 4, the page says 5"]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_commands_in_pages_are_understood(page):
    for arguments in commands(page):
        written = f"{page.name}: softhebb-fast {' '.join(arguments)}"
        try:
            options = make_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(written)
        if arguments[0] == "train":
            preset = options.preset
            assert preset in PRESETS or parse_network(preset), written


def test_commands_are_found():
    found = [arguments[0] for arguments in commands(DOCS / "commands.md")]
    assert found[:3] == ["train", "evaluate", "plot"]


def test_rules_are_all_told():
    page = text("rules.md")
    for name in (*WTA, *TIE_RULES, *PADDING_MODES, *kinds.RULES):
        assert f"`{name}`" in page, name
    for name in kinds.RULES:
        assert f"\n### {name}\n" in page, name
        assert f"](figures/rules/{name}.png)" in page, name
        assert 0 < (DOCS / f"figures/rules/{name}.png").stat().st_size < 60_000, name
    for name in optim.__all__:
        told = name in page or name in text("training.md") or name in text("symmetry.md")
        assert told, name


def test_starts_are_all_told():
    for name in (*INITS, *FROM_DATA):
        assert f"`{name}`" in text("initialisation.md"), name


def test_layer_strings_are_all_told():
    page = text("layer_strings.md")
    for key in KEYS:
        assert re.search(rf"^\| `{key}` \|", page, re.MULTILINE), key
    whitening = page.split("## Whitening")[1]
    for key in WHITENING_KEYS:
        assert re.search(rf"^\| `{key}` \|", whitening, re.MULTILINE), key
    for name in (*METHODS, *RULES, *OPERATIONS["conv"], *OPERATIONS["linear"]):
        assert f"`{name}`" in page, name
    for name in ACTIVATIONS:
        assert re.search(rf"`{name}[_`]", page), name
    for program in blocks(DOCS / "layer_strings.md", "sh"):
        parse_network(re.search('"(.*)"', program)[1])


@pytest.mark.parametrize(
    ("key", "field"),
    [("t", "t_invert"), ("lr", "lr"), ("lp", "lr_power"), ("r", "radius"), ("a", "delta")],
)
def test_defaults_of_layer_strings(key, field):
    told = re.search(rf"^\| `{key}` \|.*\| (.*), (.*) \|$", text("layer_strings.md"), re.MULTILINE)
    conv, linear = map(float, told.groups())
    assert (conv, linear) == (DEFAULTS["conv"][field], DEFAULTS["linear"][field])


def documented() -> set[str]:
    pages = (page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    return {name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}


def test_every_public_room_has_a_page():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    rooms = {room for room in rooms if not room.startswith("_")} - PRIVATE
    assert rooms == {name.split(".")[1] for name in documented()}


def test_what_is_documented_is_there():
    for name in documented():
        assert pkgutil.resolve_name(name).__doc__, name


def test_names_that_are_also_files_are_documented_by_themselves():
    """What reads the docstrings takes ``init.apply`` for the file."""
    rooms = [found for name in documented() if ismodule(found := pkgutil.resolve_name(name))]
    for room in rooms:
        files = {module.name for module in pkgutil.iter_modules(getattr(room, "__path__", ()))}
        for both in files.intersection(getattr(room, "__all__", ())):
            assert f"{room.__name__}.{both}.{both}" in documented()


def test_the_navigation_names_every_page():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"- {page.relative_to(DOCS).as_posix()}\n" in navigation


def test_marks_are_made_by_the_site():
    hook = text("hooks/generated.py")
    for page in PAGES:
        for name in re.findall("<!-- made: (.*) -->", page.read_text(encoding="utf-8")):
            assert f"def {name}()" in hook
    parsers = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert len(parsers) == 1
    assert PRESETS
    assert VARIABLES


def test_pages_name_no_place_of_a_machine():
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(work|tmp|root|opt)/", page.read_text(encoding="utf-8"))


def test_links_of_pages_lead_to_files_of_the_repository():
    notebooks = (DOCS / "notebooks").glob("*.py")
    for page in [*PAGES, *notebooks, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!\w+:)([^)#\s]+)[)#]", page.read_text(encoding="utf-8")):
            assert Path(page.parent, link).exists(), f"{page.name}: {link}"
