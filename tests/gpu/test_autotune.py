"""Launch configurations measured on the device, and believed by the next process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.gpu import MARKS, needs_cuda

pytestmark = [*MARKS, needs_cuda]

LAYER = """
import torch
from softhebb_fast import functional
from tests.tolerances import assert_close
torch.manual_seed(0)
x, w = torch.randn(10, 96, 16, 16, device="cuda"), torch.randn(384, 96, 3, 3, device="cuda") / 30
got = functional.softhebb_conv2d(x, w, padding=1, t_invert=1.0)
want = functional.softhebb_conv2d(x.double(), w.double(), padding=1, t_invert=1.0)
assert_close(got.u, want.u, 1e-5)
"""


def test_a_layer_is_tuned_and_the_next_process_believes_it(tmp_path):
    env = os.environ | {"SOFTHEBB_FAST_AUTOTUNE": "1", "SOFTHEBB_FAST_PRECISION": "ieee"}
    env["XDG_CACHE_HOME"] = str(tmp_path)
    written = []
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", LAYER], env=env, cwd=Path(__file__).parents[2], check=True
        )
        (file,) = (tmp_path / "softhebb_fast" / "autotune").glob("*.json")
        written.append((file.stat().st_mtime_ns, json.loads(file.read_text())))
    assert written[0] == written[1]
    assert len(written[0][1]["choices"]) == 1
