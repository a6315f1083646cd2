"""Everything that can go wrong, as one small tree.

    PerceptionError
    |-- ConfigError    a setting given by the user is wrong (option, parameter, recipe)
    |-- ModelError     a model file cannot be used; nothing starts with it
    |-- FrameError     one image cannot be used; it is dropped and counted by `reason`
    `-- DataError      a data set, label file or bag cannot be used
        `-- BagError   a rosbag2 is missing, truncated or lacks what was asked for

Every message is one line: what is wrong, where, and what to do. Executables print it and exit with
`EXIT_BAD_INPUT`; nothing else is caught, so a traceback always means a defect of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

EXIT_OK = 0
EXIT_DEFECT = 1
EXIT_BAD_INPUT = 2
EXIT_BELOW_TARGET = 3
EXIT_WORSE = 4
EXIT_INTERRUPTED = 130
EXIT_CODES: Mapping[int, str] = {
    EXIT_OK: "done",
    EXIT_DEFECT: "a defect of this package, with a traceback",
    EXIT_BAD_INPUT: "the user can mend it: a wrong option, file, model or data set",
    EXIT_BELOW_TARGET: "everything ran, but a required accuracy or tolerance was missed",
    EXIT_WORSE: "everything ran, but the model is worse than the baseline that it was compared with",
    EXIT_INTERRUPTED: "Ctrl-C (128 + SIGINT), as shells report it",
}
"""What the exit codes of all commands mean."""

LONGEST_MESSAGE = 2000
"""Characters of an error's message: names and values of strangers in it may be of any length."""


def printable(text: str) -> str:
    """Returns a text on one line, of at most some `LONGEST_MESSAGE` characters, with escapes for what has no glyph.

    Names and values of files and peers can hold newlines, which forge lines, and sequences that steer a terminal.
    """
    if len(text) > LONGEST_MESSAGE:
        half = LONGEST_MESSAGE // 2
        text = f"{text[:half]} ... {text[-half:]}"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def one_line(error: BaseException, most: int = 300, keep: Literal["start", "end"] = "start") -> str:
    """Returns what an error says on one printable line, or its kind where it says nothing.

    Args:
        error: Of any library; some write paragraphs.
        most: Characters that are kept of a long text.
        keep: Which of its ends they are; ONNX Runtime's texts begin with a C++ signature.
    """
    text = printable(" ".join(str(error).split())) or type(error).__name__
    if len(text) <= most:
        return text
    return f"{text[:most]}..." if keep == "start" else f"...{text[-most:]}"


def with_kind(error: BaseException) -> str:
    """Returns an unforeseen error on one line, its kind first: of a KeyError the text alone says little."""
    return f"{type(error).__name__}: {one_line(error)}"


class PerceptionError(Exception):
    """Base of every error this package raises on purpose.

    What cannot be printed on one line, such as a newline in the name of a file or the surrogates of one that is no
    UTF-8, is written as an escape. Of a very long message the middle is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ConfigError(PerceptionError):
    """A setting given by the user is wrong."""


class ModelError(PerceptionError):
    """A model file cannot be used."""


class FrameError(PerceptionError):
    """One image cannot be used.

    Attributes:
        reason: Short, stable key without values (`encoding`, `truncated`, ...), by which drops are counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DataError(PerceptionError):
    """A data set, a label file or a bag cannot be used."""


class BagError(DataError):
    """A rosbag2 is missing, truncated, or lacks what was asked for."""
