"""Notebooks of the site: run from their sources, with what they print and draw.

A source is a Python program in cells, as jupytext writes them (``# %%``). Notebooks run again when
they or the package have changed.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "docs" / "notebooks"
KEPT = ROOT / "build" / "notebooks"
Rendered = tuple[str, dict[str, bytes]]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    package = digest(*sorted((ROOT / "softhebb_fast").rglob("*.py")), Path(__file__))
    for source in sorted(SOURCES.glob("*.py")):
        kept = KEPT / f"{source.stem}-{package}-{digest(source)}.pickle"
        if not kept.exists():
            page = rendered(source)
            KEPT.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(page))
        text, pictures = pickle.loads(kept.read_bytes())
        files.append(File.generated(config, f"notebooks/{source.stem}.md", content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files


def rendered(source: Path) -> Rendered:
    """The page of a notebook and its pictures; an error in a cell is raised."""
    os.environ["PYTHONPATH"] = str(ROOT)
    notebook = jupytext.read(source)
    no_ports = Config({"KernelManager": {"transport": "ipc"}})
    NotebookClient(notebook, timeout=600, coalesce_streams=True, config=no_ports).execute()
    for cell in notebook.cells:
        if "outputs" in cell:  # without warnings, which name folders of this machine
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    resources = {"unique_key": source.stem, "output_files_dir": "pictures"}
    text, found = MarkdownExporter().from_notebook_node(notebook, resources)
    end = f"The program of this page: `docs/notebooks/{source.name}`"
    return f"{text.strip()}\n\n{end}\n", found["outputs"]


def digest(*paths: Path) -> str:
    found = hashlib.blake2b(digest_size=8)
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()
