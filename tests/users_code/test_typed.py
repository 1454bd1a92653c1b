"""The program whose types `make types` checks does what it says."""

from __future__ import annotations

from tests.users_code.typed import right


def test_the_typed_program_runs(tmp_path):
    right.main(tmp_path / "run")
