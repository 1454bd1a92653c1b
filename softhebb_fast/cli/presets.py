"""``softhebb-fast presets``: the networks there are."""

from __future__ import annotations

import argparse

from softhebb_fast.presets import PRESETS, get_preset


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    chosen = [get_preset(options.name)] if options.name else PRESETS.values()
    print("\n".join(preset.describe() for preset in chosen))
    return 0
