"""Builds the optional C++ kernels; everything else is in pyproject.toml and build_backend.py.

SOFTHEBB_FAST_BUILD=auto (default) falls back to pure Python with a warning, 0 never builds,
1 fails loudly. The file is named after the minor version of torch that it was compiled against:
softhebb_fast/extension.py loads the one that fits.
"""

import os
import sys
import warnings
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

BUILD = os.environ.get("SOFTHEBB_FAST_BUILD", "auto")
SANITIZE = os.environ.get("SOFTHEBB_FAST_SANITIZE", "")  # for the tests, "address,undefined"
SOURCES = sorted(str(path) for path in Path("csrc").glob("*.cpp"))
UNCOMPILED = {"sdist", "egg_info", "dist_info"}  # commands that need no torch

if BUILD not in ("auto", "0", "1"):
    raise SystemExit(f"SOFTHEBB_FAST_BUILD must be auto, 0 or 1; got {BUILD!r}")


def skip(reason):
    if BUILD == "1":
        raise SystemExit(f"SOFTHEBB_FAST_BUILD=1, but the extension cannot be built: {reason}")
    warnings.warn(f"installing softhebb_fast without its C++ kernels: {reason}", stacklevel=2)


class Wheel(bdist_wheel):
    """For every Python: the kernels are operators of torch and no module."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


def extension():
    """Arguments of setup() that build the extension."""
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    minor = "_".join(torch.__version__.split(".")[:2])

    class Build(BuildExtension):
        def run(self):
            for other in Path(self.build_lib, "softhebb_fast").glob("_C*.so"):
                other.unlink()  # of an earlier build, perhaps of other sources
            try:
                super().run()
            except Exception as error:
                skip(f"{type(error).__name__}: {error}")

    openmp = "OpenMP" in torch.__config__.parallel_info() and sys.platform == "linux"
    flags = ["-O3", "-std=c++20", "-fvisibility=hidden", "-fopenmp-simd", "-fno-math-errno"]
    flags += ["-fno-trapping-math", "-Wall"]
    links = []
    if openmp:
        flags, links = [*flags, "-fopenmp"], ["-fopenmp"]
    if SANITIZE:
        sanitize = [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=undefined", "-g", "-O1"]
        sanitize += ["-march=native", "-DSOFTHEBB_ONE_LEVEL"]
        flags, links = [*flags, *sanitize], [*links, *sanitize]
    else:
        flags += ["-g0"]
    module = CppExtension(
        f"softhebb_fast._C_torch{minor}",
        SOURCES,
        extra_compile_args=flags,
        extra_link_args=links,
        depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
    )
    module.libraries.remove("torch_python")  # no Python module
    return {
        "ext_modules": [module],
        "cmdclass": {
            "build_ext": Build.with_options(no_python_abi_suffix=True),
            "bdist_wheel": Wheel,
        },
    }


arguments = {}
if BUILD != "0" and UNCOMPILED.isdisjoint(sys.argv):
    try:
        if sys.platform == "win32":
            raise ImportError("the kernels are written for GCC and Clang")
        arguments = extension()
    except ImportError as error:
        skip(error)
setup(**arguments)
