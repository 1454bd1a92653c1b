"""A slice of ``make fire``: mutants are what they say, and their outcomes are told apart."""

from __future__ import annotations

import ast
import random
import shutil
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytest.importorskip("coverage")

from benchmarks.fire import record
from benchmarks.fire.mutants import kinds, native, ptx, python, reach, tree
from benchmarks.fire.mutants.edits import Edit, next_number

ROOT = Path(__file__).parents[2]


def after(edits: list[Edit], text: str) -> set[str]:
    """What becomes of a text of one line."""
    for edit in edits:
        assert edit.shown(text)[0] == text.strip()
    return {edit.applied(text) for edit in edits}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a < b", {"a <= b"}),
        ("a is not b in c", {"a is b in c", "a is not b not in c"}),
        ("a + 2 * (b) / c", {"a - 2 * (b) / c", "a + 3 * (b) / c", "a + 2 / (b) / c",
                             "a + 2 * (b) * c"}),
        ("x = 1.5 if not u else -1", {"x = 2.5 if not u else -1", "x = 1.5 if  u else -1",
                                      "x = 1.5 if not u else 1", "x = 1.5 if not u else -2"}),
        ("y = f(a, b, *c)", set()),
        ("y = f(a, b)", {"y = f(b, a)"}),
        ("f(a)", {"pass"}),
        ("a.b = c", {"pass"}),
        ("y = [u for u in v if u]", {"y = [u for u in v if (not (u))]"}),
        ("y = a and b or True", {"y = a or b or True", "y = a and b and True",
                                 "y = a and b or False"}),
        ("def f(a: int | None) -> 1 | 2: 'text'", set()),
        ("y = f'{1 + 2} ü' % 3", {"y = f'{1 + 2} ü' % 4"}),
    ],
)  # fmt: skip
def test_python(text, want):
    assert after(python.edits(text), text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("  if (a < b) x += y;", {"  if (a <= b) x += y;", "  if (!(a < b)) x += y;",
                                  "  if (a < b) x -= y;"}),
        ("  std::min<int>(a, 2u) // 3 < 4", {"  std::max<int>(a, 2u) // 3 < 4",
                                             "  std::min<int>(a, 3u) // 3 < 4"}),
        ("  call(a)[i] = T(1.5f);", {"  call(a)[i] = T(2.5f);", "  ;"}),
        ('  TORCH_CHECK(a, "1 < 2", T<3>());', {'  TORCH_CHECK(a, "1 < 2", T<4>());'}),
        ("#define N 3", set()),
        ("  const T* x = a && true;", {"  const T* x = a || true;", "  const T* x = a && false;"}),
    ],
)  # fmt: skip
def test_native(text, want):
    assert after(native.edits(text), text) == want


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("setp.lt.s32 %p1, %r1, %r2;", {"setp.le.s32 %p1, %r1, %r2;"}),
        ("@%p1 st.global.b32 [%rd1+4], {%r1};", {"@!%p1 st.global.b32 [%rd1+4], {%r1};", "",
                                                 "@%p1 st.global.b32 [%rd1+5], {%r1};"}),
        ("bar.sync 0;", {""}),
        ("shl.b32 %r1, %r2, 3;", {"shr.u32 %r1, %r2, 3;", "shl.b32 %r1, 3, %r2;",
                                  "shl.b32 %r1, %r2, 4;"}),
        ("fma.rn.f32 %f1, %f2, %f3, %f4;", {"fma.rn.f32 %f1, %f2, %f3, %f3;"}),
        ("mul.f32 %f1, %f2, 0f3F800000;", {"mul.f32 %f1, %f2, 0f40000000;"}),
        ("selp.b32 %r1, %r2, %r3, %p1;", {"selp.b32 %r1, %r3, %r2, %p1;"}),
        ("cp.async.wait_group 1;", {"", "cp.async.wait_group 2;"}),
        ("mov.b32 %r1, %r2;", set()),
    ],
)  # fmt: skip
def test_ptx(line, want):
    text = f".version 8.0\n.visible .entry k(\n)\n{{\n\t.reg .b32 %r<9>;\n\t{line}\n\tret;\n}}\n"
    found = ptx.edits(text)
    assert {edit.applied(text) for edit in found} == {text.replace(line, new) for new in want}
    assert not ptx.edits(text, {line.rstrip(";")[:60]})


@pytest.mark.parametrize(
    ("number", "want"),
    [("9", "10"), ("0x1f", "32"), ("1e-3", "1.001"), ("2.f", "3.0f"), ("7u", "8u")],
)
def test_next_number(number, want):
    assert next_number(number) == want


def test_every_mutation_of_what_there_is_can_be_read():
    """Of Python; and it is another program."""
    rng = random.Random(0)
    for path in [p for pattern in kinds.PYTHON for p in ROOT.glob(pattern)]:
        text = path.read_text(encoding="utf-8")
        same = ast.dump(ast.parse(text))
        found = python.edits(text)
        for edit in rng.sample(found, min(5, len(found))):
            assert ast.dump(ast.parse(edit.applied(text))) != same


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny one, with a test that passes, in which tests can be run."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "benchmarks" / "fire" / "mutants", folder / "benchmarks/fire/mutants")
    for package in ("benchmarks", "benchmarks/fire"):
        (folder / package / "__init__.py").write_text("")
    (folder / "own.py").write_text(
        "def twice(x):\n    return x + x\n\n\ndef other():\n    return 1\n"
    )
    (folder / "tests").mkdir()
    (folder / "tests" / "test_own.py").write_text(
        "import own\n\n\ndef test_two():\n    assert own.twice(2) == 4\n\n\n"
        "def test_other():\n    assert own.other()\n"
    )
    return folder


@pytest.mark.slow
def test_outcomes_are_told_apart(project):
    tests, own = tree.Tests(project), project / "own.py"
    try:
        assert tests.run(["tests"], 60) == (tree.PASSED, "")
        with tree.changed(own, own.read_text().replace("x + x", "x - x")):
            assert tests.run(["tests"], 60) == (tree.FAILED, "tests/test_own.py::test_two")
        with tree.changed(own, "while True:\n    pass\n"):
            assert tests.run(["tests"], 8)[0] == tree.HUNG
        assert tests.run(["tests/test_own.py::test_gone"], 60)[0] == tree.CHANGED
        assert tests.run(["tests"], 60) == (tree.PASSED, "")
    finally:
        tests.close()


def test_tests_that_reach_a_line(project, tmp_path):
    pytest.importorskip("pytest_cov")
    found = reach.record(tmp_path, project, ["own.py"], ["tests"])
    assert found.tests("own.py", range(2, 3)) == ["tests/test_own.py::test_two"]
    assert found.tests("own.py", range(6, 7)) == ["tests/test_own.py::test_other"]
    assert len(found.tests("own.py", range(1, 2))) == 2  # a definition runs on import


def test_who_survived_is_explained():
    """Each by one row that is written by hand, and no row is left over."""
    key = ("kind", "file", "before", "after")
    rows = record.read(record.FOLDER / "mutants.csv")
    survived = {tuple(r[k] for k in key) for r in rows if r["outcome"] == "survived"}
    told = [tuple(r[k] for k in key) for r in record.read(record.FOLDER / "mutants_survived.csv")]
    assert sorted(survived) == sorted(told)
