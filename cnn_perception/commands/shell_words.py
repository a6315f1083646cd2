"""How a command is written for a shell."""

from __future__ import annotations

import os
import shlex
from pathlib import PurePath


def for_shell(*words: object) -> str:
    """Returns a command on one printable line, of which a shell makes these words again, whatever is in them.

    Args:
        *words: Texts and paths. A path that begins with a dash becomes ./- so that nothing takes it for an option.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: object) -> str:
    text = str(word)
    if isinstance(word, PurePath) and text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    # newlines, and the bytes of names that are no UTF-8, as bash, zsh and POSIX of 2024 read them
    return f"$'{''.join(map(_escaped, os.fsencode(text)))}'"


def _escaped(byte: int) -> str:
    is_plain = 0x20 <= byte < 0x7F and byte not in b"\\'"
    return chr(byte) if is_plain else f"\\{byte:03o}"
