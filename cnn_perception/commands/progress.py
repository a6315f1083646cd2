"""How far some work is: a bar in a terminal, and in a log a line of it now and then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tqdm import tqdm

LINE_EVERY_S = 10.0
"""Where there is no terminal, all bars of a process together print a line so often, none in its first seconds."""

if TYPE_CHECKING:  # they know tqdm as a generic class, of which no other can be made when it runs
    ProgressBar = tqdm
else:

    class ProgressBar(tqdm):
        """A bar of tqdm, with its arguments, that is no nuisance in a log."""

        _lock = threading.RLock()  # tqdm's own starts a process from Python 3.14 on, which imports from where it is
        _next_line_s = 0.0  # of the clock that tqdm looks at

        @property
        def _is_log(self) -> bool:
            return not self.fp.isatty()

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            """Shows how far it is, or prints a line of that once in `LINE_EVERY_S`; returns whether a bar is shown."""
            if not self._is_log:
                return super().display(msg, pos)
            now_s = self._time()
            is_young = now_s < getattr(self, "start_t", now_s) + LINE_EVERY_S
            if msg != "" and not is_young and now_s >= ProgressBar._next_line_s:
                ProgressBar._next_line_s = now_s + LINE_EVERY_S
                print(self, file=self.fp, flush=True)
            return False

        def clear(self, nolock: bool = False) -> None:
            """Clears the bar; a line of a log stays, and one that is disabled has none."""
            if not self.disable and not self._is_log:
                super().clear(nolock)

        def close(self) -> None:
            """Ends it; a log needs no line break after it."""
            if not getattr(self, "disable", True) and self._is_log:
                self.leave = False
            super().close()
