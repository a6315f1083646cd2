"""How far some work is: a bar in a terminal, and in a log a line of it now and then."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    Bar = tqdm
else:

    class Bar(tqdm):
        """What type checkers know as a generic class is none when it runs."""

        def __class_getitem__(cls, _item: object) -> type:
            return cls


Item = TypeVar("Item")
LINE_EVERY_S = 10.0
"""Where there is no terminal, all bars of a process together print a line so often, the first one after that."""


class ProgressBar(Bar[Item]):
    """A bar of tqdm, with its arguments, that is no nuisance in a log."""

    _lock = threading.RLock()  # tqdm's own starts a process from Python 3.14 on, which imports from where it is
    _next_line_s = time.monotonic() + LINE_EVERY_S

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Begins, as tqdm does."""
        self._is_log = not sys.stderr.isatty()
        kept = {"leave": False} if self._is_log else {}
        super().__init__(*arguments, **{**options, **kept})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Shows how far it is, or prints a line of that once in `LINE_EVERY_S`."""
        if not self._is_log:
            return bool(super().display(msg, pos))
        now_s = time.monotonic()
        if msg != "" and now_s >= ProgressBar._next_line_s:
            ProgressBar._next_line_s = now_s + LINE_EVERY_S
            print(self, file=self.fp, flush=True)
        return False

    def clear(self, nolock: bool = False) -> None:
        """Clears the bar; a line of a log stays."""
        if not self._is_log:
            super().clear(nolock)
