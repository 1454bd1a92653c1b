"""A sealed file is what was written, or says that it is not; older ones have no digest."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from softhebb_fast import sealed
from softhebb_fast.sealed import Damaged

CONTENT = {"run": {"seed": 3, "lr": 0.1, "sizes": [1, 2.5, None]}, "root": "/data", "ä": True}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "file"
    sealed.write(path, lambda file: file.write(b"content" * 1000))
    return path


def test_the_content_stands_before_its_digest(written):
    assert written.read_bytes().startswith(b"content" * 1000)
    with open(written, "rb") as file:
        assert sealed.is_sealed(file)
        assert file.tell() == 0


def test_every_bit_of_the_content_counts(written):
    whole = written.read_bytes()
    for bit in range(0, 8 * 7000, 97):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged, match="not what was written"):
            sealed.is_sealed(io.BytesIO(damaged))


@pytest.mark.parametrize("cut", [1, 10, 60, 7000])
def test_a_digest_that_is_no_longer_at_the_end_is_none(written, cut):
    whole = written.read_bytes()
    assert not sealed.is_sealed(io.BytesIO(whole[:-cut]))
    assert not sealed.is_sealed(io.BytesIO(whole + b"\n"))


def test_two_files_with_equal_content_are_equal(written, tmp_path):
    sealed.write(tmp_path / "again", lambda file: file.write(b"content" * 1000))
    assert (tmp_path / "again").read_bytes() == written.read_bytes()


def test_check_sums_of_a_zip_archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("member", b"content")
    sealed.check_zip(file)
    assert file.tell() == 0
    damaged = file.getvalue().replace(b"content", b"cohtent")
    with pytest.raises(Damaged, match="its member member is another"):
        sealed.check_zip(io.BytesIO(damaged))
    with pytest.raises(Damaged, match="no whole zip archive"):
        sealed.check_zip(io.BytesIO(file.getvalue()[:-5]))


def test_json_comes_back(tmp_path):
    path = tmp_path / "file.json"
    sealed.write_json(path, CONTENT)
    assert sealed.read_json(path) == CONTENT
    assert list(sealed.read_json(path)) == list(CONTENT)
    first, *_, last = json.loads(path.read_text())
    assert (first, last) == (sealed.MARK, sealed.DIGEST)


def test_json_from_before_digests_comes_back(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(CONTENT))
    assert sealed.read_json(path) == CONTENT


def test_a_flipped_bit_never_gives_other_json(tmp_path):
    path = tmp_path / "file.json"
    sealed.write_json(path, CONTENT)
    whole = path.read_bytes()
    refused = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert sealed.read_json(path) == CONTENT  # white space
        except Damaged:
            refused += 1
    assert refused > 0.9 * 8 * len(whole)


@pytest.mark.parametrize("lost", [sealed.MARK, sealed.DIGEST])
def test_a_lost_mark_does_not_make_an_older_file(tmp_path, lost):
    path = tmp_path / "file.json"
    sealed.write_json(path, CONTENT)
    content = json.loads(path.read_text())
    del content[lost]
    path.write_text(json.dumps(content))
    with pytest.raises(Damaged, match="by its digest"):
        sealed.read_json(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "[" * 100_000, "\udcff"])
def test_what_is_no_json_object(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Damaged, match=r"no JSON|no object"):
        sealed.read_json(path)
