"""Markdown of what the code says: lists of terms with their meaning, and texts in which nothing is taken for markup."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CODE = re.compile(r"(`+[^`]+`+)")
_MARKUP = re.compile(r"([\\*_<>\[\]|$#])")
_DESCRIBED = re.compile(r"^(\S.*)\n: +(.+(?:\n  +.+)*)", re.MULTILINE)


def text(words: str) -> str:
    """Returns a text of the code on one line, in which only `code` and the empty text '' are markup."""
    parts = _CODE.split(" ".join(words.split()).replace("''", "`''`"))
    return "".join(part if part.startswith("`") else _MARKUP.sub(r"\\\1", part) for part in parts)


def code(words: object) -> str:
    """Returns words as code; backticks in them stay."""
    shown = str(words)
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def terms(entries: Iterable[tuple[str, Iterable[str], str]]) -> str:
    """Returns a definition list.

    Args:
        entries: Name, facts in a few words each, and meaning, all Markdown.
    """
    return "\n\n".join(
        f"{name}{' · ' if facts else ''}{' · '.join(facts)}\n: {meaning}"
        for name, facts, meaning in ((name, [fact for fact in facts if fact], what) for name, facts, what in entries)
    )


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table of Markdown cells."""
    titles = list(header)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def described(body: str) -> dict[str, str]:
    """Returns what a page says of each name: a definition list, whose terms are the names."""
    return {name.strip("`"): " ".join(words.split()) for name, words in _DESCRIBED.findall(body)}
