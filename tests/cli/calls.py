"""The command as a test calls it."""

from __future__ import annotations

from softhebb_fast import cli


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit status and what was written to standard output and standard error."""
    capsys.readouterr()
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()
