"""What has changed since when, so that a page is told only what it does not know."""

from __future__ import annotations

from collections.abc import Iterable


class Revisions:
    """Counts changes; a page remembers the count at which it was told last, -1 if never."""

    def __init__(self) -> None:
        """Begins with nothing told."""
        self.current = 0
        self._of_rows: dict[int, int] = {}
        self._of_arrangement = 0
        self._of_news = 0
        self._news = ""

    def change_rows(self, numbers: Iterable[int]) -> None:
        """Notes that some rows have changed."""
        self.current += 1
        self._of_rows |= dict.fromkeys(numbers, self.current)

    def rearrange(self) -> None:
        """Notes that there are other rows or classes, or another order of them."""
        self.current += 1
        self._of_arrangement = self.current

    def say(self, news: str) -> None:
        """Notes something that is to be said on every page."""
        self.current += 1
        self._of_news = self.current
        self._news = news

    def has_row(self, number: int, after: int) -> bool:
        """Returns whether a row has changed after a revision."""
        return after < 0 or self._of_rows.get(number, 0) > after

    def has_arrangement(self, after: int) -> bool:
        """Returns whether rows, classes or their order have changed after a revision."""
        return after < 0 or self._of_arrangement > after

    def news(self, after: int) -> str:
        """Returns what is to be said to a page that was told something before; empty if that is nothing."""
        return self._news if self._of_news > after >= 0 else ""
