from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from softhebb_fast.data import data_root, load, sets, sources
from tests.data.writers import (
    IDX_IMAGES,
    IDX_LABELS,
    idx_bytes,
    write_cifar10,
    write_mnist,
    write_tree,
)

EMBEDDED = Path(sets.__file__).with_name("bundled")


def test_root_order(tmp_path, monkeypatch):
    given, variable = tmp_path / "given", tmp_path / "variable"
    given.mkdir()
    variable.mkdir()
    monkeypatch.setenv("SOFTHEBB_FAST_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = sources.roots()[-1]
    assert sources.roots() == [EMBEDDED, cache]
    monkeypatch.setenv("SOFTHEBB_FAST_DATA", str(variable))
    assert sources.roots() == [variable, EMBEDDED, cache]
    assert data_root() == variable
    assert sources.roots(given) == [given]
    assert data_root(given) == given


def test_nothing_is_downloaded_into_the_package(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = archive(write_cifar10(tmp_path), "cifar-10-batches-py")
    serve(monkeypatch, "cifar10", server, {"cifar.tar.gz": content})
    before = sorted(EMBEDDED.rglob("*"))
    assert len(load("cifar10")) == 10
    assert sorted(EMBEDDED.rglob("*")) == before
    assert (data_root() / "cifar-10-batches-py").is_dir()
    assert data_root(EMBEDDED) == EMBEDDED


def test_root_without_a_checkout_is_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "EMBEDDED", tmp_path / "absent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root().name == "softhebb_fast"
    assert not data_root().is_relative_to(EMBEDDED)


def test_root_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"root must be an existing folder.*nowhere"):
        data_root(tmp_path / "nowhere")
    monkeypatch.setenv("SOFTHEBB_FAST_DATA", str(tmp_path / "lost"))
    with pytest.raises(ValueError, match=r"SOFTHEBB_FAST_DATA must be an existing folder.*lost"):
        data_root()
    assert not (tmp_path / "nowhere").exists()


def test_a_given_root_decides_alone(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load("mnist", root=tmp_path, download=False)
    message = str(error.value)
    assert str(tmp_path / "MNIST/raw") in message
    assert "train-images-idx3-ubyte, train-labels-idx1-ubyte" in message
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz" in message
    assert "SOFTHEBB_FAST_DATA" in message
    assert "failed" not in message


def test_embedded_mnist_is_canonical():
    for address, md5 in sets.DATA_SETS["mnist"].downloads:
        content = (EMBEDDED / "MNIST/raw" / address.rsplit("/", 1)[1]).read_bytes()
        assert hashlib.md5(content).hexdigest() == md5


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def serve(monkeypatch, name: str, server, files: dict[str, bytes], **changes) -> None:
    folder, address = server
    downloads = []
    for file, content in files.items():
        (folder / file).write_bytes(content)
        downloads.append((address + file, hashlib.md5(content).hexdigest()))
    source = replace(sets.DATA_SETS[name], downloads=tuple(downloads), **changes)
    monkeypatch.setitem(sets.DATA_SETS, name, source)


def archive(folder: Path, name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder, name)
    return stream.getvalue()


MNIST_FILES = {
    "train-images-idx3-ubyte.gz": gzip.compress(idx_bytes(IDX_IMAGES)),
    "train-labels-idx1-ubyte.gz": gzip.compress(idx_bytes(IDX_LABELS)),
}


def test_download_of_single_files(server, root, monkeypatch):
    serve(monkeypatch, "mnist", server, MNIST_FILES)
    assert load("mnist", root=root).labels.tolist() == [7, 0, 9]
    assert {p.name for p in (root / "MNIST/raw").iterdir()} == set(MNIST_FILES)
    assert [p.name for p in root.iterdir()] == ["MNIST"]
    for path in server[0].iterdir():
        path.unlink()
    assert len(load("mnist", root=root)) == 3


def test_download_fetches_only_what_is_missing(server, root, monkeypatch):
    raw = write_mnist(root)
    (raw / "train-images-idx3-ubyte").unlink()
    (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1, 2, 3])))
    serve(monkeypatch, "mnist", server, MNIST_FILES)
    assert load("mnist", root=root).labels.tolist() == [1, 2, 3]
    assert not (raw / "train-labels-idx1-ubyte.gz").exists()


def test_download_with_another_checksum(server, root, monkeypatch):
    serve(monkeypatch, "mnist", server, MNIST_FILES)
    (server[0] / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    md5 = hashlib.md5(MNIST_FILES["train-images-idx3-ubyte.gz"]).hexdigest()
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte\.gz is not .* of md5 {md5}"):
        load("mnist", root=root)
    assert list(root.iterdir()) == []


def test_download_that_fails_says_what_to_put_where(server, root, monkeypatch):
    serve(monkeypatch, "mnist", server, MNIST_FILES)
    (server[0] / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as error:
        load("mnist", root=root)
    message = str(error.value)
    assert f"{root / 'MNIST/raw'} lacks train-labels-idx1-ubyte. Downloading failed: 404" in message
    assert (root / "MNIST/raw/train-images-idx3-ubyte.gz").exists()
    with pytest.raises(FileNotFoundError, match=r"lacks train_X\.bin, train_y\.bin\. Put what"):
        load("stl10", root=root, download=False)


def test_download_of_an_archive(server, root, tmp_path, monkeypatch):
    content = archive(write_cifar10(tmp_path), "cifar-10-batches-py")
    serve(monkeypatch, "cifar10", server, {"cifar.tar.gz": content})
    assert len(load("cifar10", root=root)) == 10
    assert [p.name for p in root.iterdir()] == ["cifar-10-batches-py"]
    batch = root / "cifar-10-batches-py/data_batch_1"
    batch.unlink()
    (batch.parent / "mine").write_text("kept")
    assert len(load("cifar10", root=root)) == 10
    assert batch.exists()
    assert (batch.parent / "mine").read_text() == "kept"


def test_download_of_a_tree_renames_its_folder(server, root, tmp_path, monkeypatch):
    content = archive(write_tree(tmp_path / "t", "train", {"a": 2}), "imagenette2-160")
    serve(monkeypatch, "imagenette", server, {"imagenette2-160.tgz": content})
    assert len(load("imagenette", root=root, image_size=4)) == 2
    assert [p.name for p in root.iterdir()] == ["imagenette"]


def test_archives_cannot_write_elsewhere(server, root, tmp_path, monkeypatch):
    content = archive(write_cifar10(tmp_path), "../../escaped")
    serve(monkeypatch, "cifar10", server, {"cifar.tar.gz": content})
    with pytest.raises(ValueError, match=r"cifar\.tar\.gz is no sound tar archive.*outside"):
        load("cifar10", root=root)
    assert list(root.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))
