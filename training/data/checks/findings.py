"""The list of what was noticed about images: its kinds, its file, and how often each occurred."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import ConfigError
from training.data.conflicts import (
    COPY,
    ERRORS,
    IN_TWO_SOURCES,
    NO_IMAGE,
    NOT_IN_PART,
    OTHER_NUMBERS,
    TWO_LABELS,
    TWO_PARTS,
)
from training.data.look_alikes import ACROSS, LOOK_ALIKES
from training.data.records import ImageFinding
from training.data.scan import ANIMATED, BESIDE_PIXELS, HUGE, NEARLY_BLACK, TRANSPARENT
from training.run_files import make_folder, write_csv

KINDS = (
    ANIMATED, TRANSPARENT, NEARLY_BLACK, HUGE, BESIDE_PIXELS, OTHER_NUMBERS, COPY,
    *(f"{kind} {ACROSS}" for kind in LOOK_ALIKES), *LOOK_ALIKES, IN_TWO_SOURCES, *ERRORS,
)  # fmt: skip
"""How the reasons of findings begin, by which they are counted; a longer one before its own beginning."""
_HEADER = ("path", "reason", "action")


def write_findings(path: Path | None, findings: Sequence[ImageFinding]) -> None:
    """Writes what was found as a table (path, reason, action), or removes an earlier check's where there is nothing.

    Raises:
        ConfigError: If another file is there.
        DataError: If it cannot be written.
    """
    if path and os.path.lexists(path) and not _is_list_of_findings(path):
        raise ConfigError(f"{path}: is there already and no list of findings; choose another place for them")
    if path and not findings:
        path.unlink(missing_ok=True)  # an earlier check's
    elif path:
        make_folder(path.parent)
        write_csv(path, _HEADER, [(f.path, f.reason, f.action) for f in findings])


def _is_list_of_findings(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and file.readline(100) == f"{','.join(_HEADER)}\n".encode()
    except OSError:
        return False


def summary(findings: Sequence[ImageFinding]) -> list[str]:
    """Returns how often each kind of warning occurred, and what was dropped, a line each."""
    warned = Counter(_kind(finding) for finding in findings if finding.action == "warning")
    dropped = [finding for finding in findings if finding.action == "dropped"]
    counts = Counter(_kind(finding) for finding in dropped)
    return [
        *(finding.reason for finding in findings if finding.reason.startswith((NO_IMAGE, NOT_IN_PART))),
        *(f"{_images(warned[kind])}: {kind}" for kind in KINDS if warned[kind] and kind not in (NO_IMAGE, NOT_IN_PART)),
        *(
            f"{_images(counts[kind])} dropped: {kind}"
            for kind in (IN_TWO_SOURCES, TWO_LABELS, TWO_PARTS)
            if counts[kind]
        ),
    ]


def _images(count: int) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"


def _kind(finding: ImageFinding) -> str:
    """Returns which of `KINDS` a warning is of."""
    return next(kind for kind in KINDS if finding.reason.startswith(kind))
