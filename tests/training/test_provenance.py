from __future__ import annotations

import subprocess

import torch

from softhebb_fast import __version__
from softhebb_fast.training import provenance


def test_the_commit_of_a_checkout(tmp_path):
    assert provenance.commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert provenance.commit(tmp_path) is None
    (tmp_path / "csrc").mkdir()
    for name in ("csrc/file", "notes"):
        (tmp_path / name).write_text("1")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "One"], check=True)
    clean = provenance.commit(tmp_path)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
    assert head.startswith(clean)
    (tmp_path / "notes").write_text("2")
    assert provenance.commit(tmp_path) == clean
    (tmp_path / "csrc" / "file").write_text("22")
    assert provenance.commit(tmp_path) == f"{clean}-dirty"


def test_a_copy_without_its_history_is_told_its_commit(tmp_path, monkeypatch):
    monkeypatch.setenv(provenance.VARIABLE, "6c571be")
    assert provenance.commit(tmp_path) == "6c571be"


def test_what_made_a_run():
    made_by = provenance.provenance()
    assert made_by["version"] == __version__
    assert made_by["threads"] == torch.get_num_threads()
    assert made_by["torch"] == torch.__version__
