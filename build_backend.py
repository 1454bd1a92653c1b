"""The build backend: setuptools', and a torch for the kernels to be compiled against.

They run with the minor version of torch that they were compiled against and with no other. So an
isolated build takes the torch that is installed where the package goes, if there is one. Otherwise
it asks for SOFTHEBB_FAST_TORCH, a requirement ("torch>=2.11" by default).
"""

import json
import os
import subprocess
import sys

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

PATH_WITH_TORCH = (
    "import json, sys; from importlib.util import find_spec;"
    "print(json.dumps(sys.path if find_spec('torch') else []))"
)


def get_requires_for_build_wheel(config_settings=None):
    return build_meta.get_requires_for_build_wheel(config_settings) + _compiling()


def get_requires_for_build_editable(config_settings=None):
    return build_meta.get_requires_for_build_editable(config_settings) + _compiling()


def build_wheel(*arguments, **options):
    sys.path += _path_with_torch()
    return build_meta.build_wheel(*arguments, **options)


def build_editable(*arguments, **options):
    sys.path += _path_with_torch()
    return build_meta.build_editable(*arguments, **options)


def _compiling():
    """What compiling the kernels needs in an isolated build."""
    if os.environ.get("SOFTHEBB_FAST_BUILD") == "0" or sys.platform == "win32":
        return []
    wanted = os.environ.get("SOFTHEBB_FAST_TORCH")
    if not wanted and not _path_with_torch():
        wanted = "torch>=2.11"
    return ["ninja", wanted] if wanted else ["ninja"]


def _path_with_torch():
    """Where this interpreter finds torch when pip does not keep it from looking, or nothing."""
    freed = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", PATH_WITH_TORCH]
    found = subprocess.run(command, env=freed, cwd=os.sep, stdout=subprocess.PIPE, check=True)
    return [entry for entry in json.loads(found.stdout) if entry]
