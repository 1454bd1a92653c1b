"""``softhebb-fast presets``: the networks there are."""

from __future__ import annotations

import argparse

from softhebb_fast.presets import PRESETS, Preset, get_preset


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    chosen = [get_preset(options.name)] if options.name else PRESETS.values()
    print("\n".join(described(preset) for preset in chosen))
    return 0


def described(preset: Preset) -> str:
    """A preset with its layers, and a line of what is known of it."""
    from softhebb_fast.experiments.known import known

    return f"{preset.describe()}\n  {known(preset)}"
