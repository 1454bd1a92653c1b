"""What is handed out: the sdist, the wheel, and what an installation without kernels says."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from softhebb_fast import __version__

ROOT = Path(__file__).parents[1]
MINOR = "_".join(torch.__version__.split(".")[:2])
CHECK = """
import warnings
import torch
from softhebb_fast import SoftHebbConv2d, SoftHebbLinear, extension
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    conv = SoftHebbConv2d(3, 4, 3, update="in_place", lr=0.1)
    before = conv.weight.clone()
    conv(torch.randn(2, 3, 8, 8))
    assert not torch.equal(conv.weight, before)
    SoftHebbLinear(8, 4)(torch.randn(2, 8))
print(len(caught), *{str(warning.message) for warning in caught})
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SOFTHEBB_FAST_")}
    inherited.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "-q", "--sdist", "--no-isolation", "-o", out, ROOT, cwd=out)
    (path,) = out.iterdir()
    return path


def environment(folder: Path) -> Path:
    """A new virtual environment that has what this one has, but for this package: its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    beside = [entry for entry in sys.path if entry.endswith("-packages")]
    Path(site.strip(), "beside.pth").write_text("\n".join(beside))
    return python


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def without_top(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}


def test_the_version_is_that_of_the_package(sdist):
    assert sdist.name == f"softhebb_fast-{__version__}.tar.gz"


def test_the_sdist_is_complete(sdist):
    found = without_top(sdist)
    made = {"PKG-INFO", "setup.cfg"}
    ignored = ("softhebb_fast.egg-info/",)
    source = {
        str(path.relative_to(ROOT))
        for folder in ("softhebb_fast", "csrc", "tests", "docs", "benchmarks", "results", "tools")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    source |= {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"}
    source |= {"pyproject.toml", "setup.py", "build_backend.py", "MANIFEST.in", "Makefile"}
    source |= {".gitignore", ".ci/run"}
    assert {"csrc/ops.cpp", "softhebb_fast/data/bundled/README.md", "docs/design.md"} <= source
    assert found - made - source == {n for n in found if n.startswith(ignored)}
    assert source - found == set()


@pytest.mark.slow
def test_a_wheel_without_kernels_says_so_once_when_it_is_used(sdist, tmp_path):
    python = environment(tmp_path / "venv")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", sdist]
    run(*build, cwd=tmp_path, SOFTHEBB_FAST_BUILD="0")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    said = run(python, "-c", CHECK, cwd=tmp_path)
    assert said.startswith("1 softhebb_fast computes by its reference, which is slow on CPUs: ")
    assert f"not built for torch {MINOR.replace('_', '.')};" in said
    assert "SOFTHEBB_FAST_BUILD=1 pip install" in said
    info = run(python, "-m", "softhebb_fast", "info", cwd=tmp_path)
    assert "auto is reference" in info
    assert "cpp: the C++ extension was not built for torch" in info
    site = Path(run(python, "-c", "import softhebb_fast as s; print(s.__file__)", cwd=tmp_path))
    site.with_name("_C_torch1_5.so").touch()
    said = run(python, "-c", CHECK, cwd=tmp_path)
    assert f"not built for torch {MINOR.replace('_', '.')}, only for 1.5;" in said
    site.with_name(f"_C_torch{MINOR}.so").touch()
    said = run(python, "-c", CHECK, cwd=tmp_path)
    assert said.startswith("1 ")
    assert "the C++ extension does not load" in said


@pytest.mark.slow
@pytest.mark.timeout(2400)  # all kernels are compiled, on what the other tests leave of two cores
def test_the_sdist_builds_a_wheel_with_kernels_and_data(sdist, tmp_path):
    """pip isolates the build, which must find the torch of the environment that pip serves."""
    built = tmp_path / "built"
    python = environment(tmp_path / "builder")
    wheel_of = [python, "-m", "pip", "wheel", "--no-deps", "-w", built]
    run(*wheel_of, sdist, cwd=tmp_path, SOFTHEBB_FAST_BUILD="1")
    (wheel,) = built.iterdir()
    assert wheel.name.startswith(f"softhebb_fast-{__version__}-py3-none-linux_")
    found = contents(wheel)
    assert {f"softhebb_fast/_C_torch{MINOR}.so", "softhebb_fast/py.typed"} <= found
    assert sum(n.startswith("softhebb_fast/data/bundled/MNIST/raw/") for n in found) == 4
    assert "softhebb_fast/pretrained/bundled/DemoMNIST/model.safetensors" in found
    assert {n.split("/")[0].split("-")[0] for n in found} == {"softhebb_fast"}

    python = environment(tmp_path / "user")
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(python, "-c", CHECK, cwd=empty) == "0\n"
    info = run(python, "-m", "softhebb_fast", "info", cwd=empty)
    assert "auto is cpp" in info
    assert "cpp: available" in info
    demo = ["train", "DemoMNIST", "--limit", "600", "--probe-epochs", "1", "--out", "demo"]
    assert "accuracy" in run(python.with_name("softhebb-fast"), *demo, cwd=empty)
    assert (empty / "demo" / "config.json").is_file()


def fake_wheel(folder: Path, library: str, more: str = "") -> Path:
    """As much of a wheel as the merging reads."""
    tree = folder / "tree"
    info = "softhebb_fast-1.0.dist-info"
    files = {
        "softhebb_fast/__init__.py": more,
        f"softhebb_fast/{library}": library,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: softhebb_fast\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    run(sys.executable, "-m", "wheel", "pack", tree, "-d", folder, cwd=folder)
    return folder / "softhebb_fast-1.0-py3-none-any.whl"


def merge(out: Path, *wheels: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "merge_wheels.py", out, *wheels]
    return subprocess.run(command, capture_output=True, text=True)


def test_wheels_of_several_torches_become_one(tmp_path):
    one = fake_wheel(tmp_path / "a", "_C_torch2_11.so")
    two = fake_wheel(tmp_path / "b", "_C_torch2_13.so")
    done = merge(tmp_path / "out", one, two)
    assert done.returncode == 0, done.stderr
    found = contents(Path(done.stdout.strip()))
    assert {"softhebb_fast/_C_torch2_11.so", "softhebb_fast/_C_torch2_13.so"} <= found
    with zipfile.ZipFile(done.stdout.strip()) as archive:
        record = archive.read("softhebb_fast-1.0.dist-info/RECORD").decode()
    assert all(name in record for name in found)


def test_wheels_that_differ_otherwise_are_not_merged(tmp_path):
    one = fake_wheel(tmp_path / "a", "_C_torch2_11.so")
    two = fake_wheel(tmp_path / "b", "_C_torch2_13.so", more="x = 1")
    done = merge(tmp_path / "out", one, two)
    assert done.returncode != 0
    assert "softhebb_fast/__init__.py" in done.stderr
    assert not (tmp_path / "out").exists()


ELSEWHERE = """
import sys, importlib, pkgutil
import torch, numpy, matplotlib.pyplot, tqdm, platformdirs, pooch, PIL.Image, filelock
absent = {"fcntl", "grp", "pwd", "pty", "readline", "resource", "termios", "tty", "triton"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"no {name} here", name=name)
for name in [n for n in sys.modules if n.partition(".")[0] in absent]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())
import importlib.util
spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in absent else spec(name, *rest)
import softhebb_fast
for module in pkgutil.walk_packages(softhebb_fast.__path__, "softhebb_fast."):
    others = ("softhebb_fast.kernels", "softhebb_fast._", "softhebb_fast.sklearn")
    if not module.name.startswith(others):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "optuna":  # an extra
                raise
from pathlib import Path
from softhebb_fast.files import claim
from softhebb_fast.cli import main
claim(Path(sys.argv[1]))()
sys.exit(main(["info"]))
"""


@pytest.mark.slow
def test_nothing_of_posix_is_needed_to_import(tmp_path):
    info = run(sys.executable, "-c", ELSEWHERE, tmp_path, cwd=ROOT)
    assert "triton: the package triton is not installed" in info
