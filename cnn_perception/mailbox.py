"""A mailbox with one slot between the thread that receives frames and the one that answers them."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds the newest item only: latency never grows with a queue, however fast the camera is."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def put(self, item: T) -> bool:
        """Leaves an item; returns whether it overtook one that nobody had taken."""
        with self._condition:
            overtook = self._item is not None
            self._item = item
            self._condition.notify()
            return overtook

    def take(self) -> T | None:
        """Waits for an item and returns it; None once the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Ends every present and future `take`."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
