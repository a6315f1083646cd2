"""Tells by its first bytes what a file is that lies in the place of another one."""

from __future__ import annotations

from pathlib import Path

BEGINNING_BYTES = 64
"""So many first bytes tell."""
_POINTER = b"version https://git-lfs"
"""Source: Git LFS, its specification, version 1."""
_PAGES = (b"<!doctype html", b"<html")


def what_instead(beginning: bytes, wanted: str) -> str:
    """Returns what is often found in the place of any file, and what to do about it; empty for all else.

    Args:
        beginning: The file's first `BEGINNING_BYTES`, or more of it.
        wanted: What the file should be, such as `picture`.
    """
    begin = beginning[:BEGINNING_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith(_POINTER):
        return "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"
    return f"is a web page; download the {wanted} itself" if begin.startswith(_PAGES) else ""


def what_is_at(path: Path, wanted: str) -> str:
    """Returns the same of a file; empty also where it cannot be read, and of a pipe, which can be read only once."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return what_instead(file.read(BEGINNING_BYTES), wanted)
    except (OSError, ValueError):  # no path has a NUL
        return ""
