"""The library's errors in the words of the command: options as the user types them."""

from __future__ import annotations

import argparse
import re

# What the library calls otherwise than a command does.
ALIASES = {
    "root": "data",
    "out": "folder",
    "name": "dataset",
    "seed": "seeds",
    "image_size": "size",
}
# What follows a name that is also a word of English where it means the argument.
DEMANDS = r" (?:must|needs|takes|is for|already holds|or the environment)\b"
# How Python, torch and the loader of libraries say it.
OUT_OF_MEMORY = re.compile(
    "can't allocate memory|cannot allocate memory|out of memory|bad_alloc|failed to map"
    "|without exception set|without setting an exception",
    re.I,
)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether memory, of the machine or of a GPU, did not suffice."""
    return isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


class users_mistakes:
    """What the library raises here comes of what the user asked for: a ValueError.

    No generator, as ``files.named``.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        from softhebb_fast.functional.distributed import ProcessLost
        from softhebb_fast.training.ranks import FirstFailed

        if isinstance(error, (RuntimeError, TypeError)) and not isinstance(
            error, (ProcessLost, FirstFailed)
        ):
            raise ValueError(str(error)) from error


def in_words_of(parser: argparse.ArgumentParser, message: str) -> str:
    """``message`` with the names of arguments replaced by the options of ``parser``."""
    spoken = {action.dest: _spoken(action) for action in parser._actions}
    aliases = {alias: spoken[dest] for alias, dest in ALIASES.items() if dest in spoken}
    for name, words in (aliases | spoken).items():
        place = rf"(?<![\w.'/-]){name}"
        demanded = r"\b(?![='])" if "_" in name else rf"(?={DEMANDS})"
        message = re.sub(place + demanded, words, message)
        message = re.sub(rf"{place}='?([\w.-]+)'?(?=[ ,.;:]|$)", rf"{words} \1", message)
    return message


def _spoken(action: argparse.Action) -> str:
    if action.option_strings:
        return action.option_strings[0]
    return str(action.metavar or action.dest)
