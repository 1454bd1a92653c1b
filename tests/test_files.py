"""Files that are whole or absent, on full disks too; a folder that one process has at a time."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import softhebb_fast
from softhebb_fast import files
from softhebb_fast.files import InUse, claim, write_text

HOLDER = """
import sys, time
from pathlib import Path
from softhebb_fast.files import claim
release = claim(Path(sys.argv[1]))
print("claimed", flush=True)
time.sleep(300)
"""


def hold(folder: Path) -> subprocess.Popen:
    """Another process that has claimed ``folder``."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    path = os.environ | {"PYTHONPATH": str(Path(softhebb_fast.__file__).parents[1])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=path)
    assert process.stdout.readline() == "claimed\n"
    return process


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    holder = hold(tmp_path)
    try:
        with pytest.raises(InUse, match=rf"out must be .* where process {holder.pid} on .* does"):
            claim(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    claim(tmp_path)()
    assert os.listdir(tmp_path) == []


def test_a_note_of_the_holder_that_is_no_text(tmp_path):
    holder = hold(tmp_path)
    try:
        (tmp_path / ".lock.holder").write_bytes(b"\xff\0")
        with pytest.raises(InUse, match="out must be a folder in which no other process writes"):
            claim(tmp_path)
    finally:
        holder.kill()
        holder.wait()


def test_a_process_may_claim_its_own_folder_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = claim(tmp_path), claim(Path("."))
    first()
    assert sorted(os.listdir(tmp_path)) == [".lock", ".lock.holder"]
    second()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_gone_is_said_to_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"its folder is gone: '.*gone/a\.txt'"):
        write_text(tmp_path / "gone" / "a.txt", "a")


def test_a_claim_that_cannot_be_noted_is_none(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*\.lock\.holder'"):
            claim(tmp_path)
    assert os.listdir(tmp_path) == []
    holder = hold(tmp_path)
    holder.kill()
    holder.wait()


class FullDisk(io.BytesIO):
    """A file on a disk with so many bytes left."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def write(self, data) -> int:
        if self.tell() + len(data) > self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_told_with_the_name_of_the_file_whoever_writes(tmp_path):
    path, content = tmp_path / "file", {"a": torch.randn(300), "b": [torch.randn(50)] * 3}
    size = io.BytesIO()
    torch.save(content, size)
    for left in range(0, size.tell(), 64):
        with pytest.raises(OSError, match="No space left on device") as found:
            files.write_atomically(
                path, lambda file, left=left: torch.save(content, FullDisk(left))
            )
        assert found.value.errno == errno.ENOSPC
        assert found.value.filename == str(path)
        assert not list(tmp_path.iterdir())


class Interrupted(io.BytesIO):
    """A file in whose n-th writing Ctrl-C is pressed."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def write(self, data) -> int:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().write(data)


def test_an_interrupt_stays_one_whoever_writes(tmp_path):
    content = {"a": torch.randn(300), "b": [torch.randn(50)] * 3}
    for n in range(4):
        with pytest.raises(KeyboardInterrupt):
            files.write_atomically(
                tmp_path / "file", lambda file, n=n: torch.save(content, Interrupted(n))
            )
        assert not list(tmp_path.iterdir())


def test_an_error_of_a_writer_is_its_own(tmp_path):
    def write(file):
        raise RuntimeError("no disk is full")

    with pytest.raises(RuntimeError, match="no disk is full"):
        files.write_atomically(tmp_path / "file", write)
