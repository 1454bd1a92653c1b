"""The programs of the page of other libraries, each section if its library is here."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import DOCS, FENCE, run

NEEDED = {
    "scikit-learn": "sklearn",
    "Hugging Face Hub": "safetensors",
    "Lightning": "pytorch_lightning",
}


def sections() -> dict[str, list[str]]:
    """The programs of each section, by its heading."""
    parts = re.split(r"^## (.+)$", (DOCS / "libraries.md").read_text("utf-8"), flags=re.MULTILINE)
    headings = zip(parts[1::2], parts[2::2], strict=True)
    return {
        name: [program for language, program in FENCE.findall(text) if language == "python"]
        for name, text in headings
    }


def test_every_section_is_run():
    assert sections().keys() == NEEDED.keys()
    assert all(sections().values())


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.filterwarnings("ignore")
def test_the_programs_of_a_section_run_and_say_what_comes_out(name, tmp_path, monkeypatch):
    pytest.importorskip(NEEDED[name], reason=f"waits for {NEEDED[name]}")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    wrong = [fault for program in sections()[name] for fault in run(program, names)]
    assert not wrong
