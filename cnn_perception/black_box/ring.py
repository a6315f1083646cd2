"""The last seconds of everything that was received, within bounds of time and memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_OVERHEAD_BYTES = 300
"""About what Python needs for a message beside its bytes."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A message as it came.

    Attributes:
        topic: Its topic, fully qualified.
        type: Of the message, such as `sensor_msgs/msg/Image`.
        log_time_ns: When it was received, nanoseconds since 1970.
        received_s: The same by the monotonic clock, by which windows are measured: the other one may be set.
        payload: The message as CDR.
        is_state: Whether it holds until the next one of its topic, such as a calibration, which may be sent only once.
    """

    topic: str
    type: str
    log_time_ns: int
    received_s: float
    payload: bytes
    is_state: bool = False

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, about."""
        return len(self.payload) + _OVERHEAD_BYTES


class Ring:
    """The messages of the last seconds, the oldest first; guarded by whoever uses it.

    Attributes:
        size: Bytes of memory that they take.
    """

    def __init__(self, seconds: float, most_bytes: int) -> None:
        """Begins empty.

        Args:
            seconds: For how long a message is kept,
            most_bytes: unless all of them take more memory than this.
        """
        self.size = 0
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._messages: deque[Kept] = deque()
        self._states: dict[str, Kept] = {}  # the newest of each topic that is not among the messages any more
        self._newest_s = -float("inf")
        self._cut_s = -float("inf")  # when the newest of those was received that memory had no room for

    def add(self, message: Kept) -> None:
        """Keeps a message, and forgets what is too old or too much."""
        self._messages.append(message)
        self.size += message.size
        self._newest_s = max(self._newest_s, message.received_s)
        while self._messages and self._messages[0].received_s < self._newest_s - self._seconds:
            self._forget_oldest()
        while self.size > self._most_bytes:
            self._cut_s = max(self._cut_s, self._messages[0].received_s)
            self._forget_oldest()

    def after(self, time_s: float) -> list[Kept]:
        """Returns what was received after a time, in the order in which it came."""
        return [message for message in self._messages if message.received_s > time_s]

    def states_before(self, time_s: float) -> list[Kept]:
        """Returns what held at a time, of the topics of states of which nothing was received after it."""
        states = dict(self._states)
        for message in self._messages:
            if message.is_state:
                states[message.topic] = message
        topics = {message.topic for message in self.after(time_s)}
        return [message for topic, message in states.items() if topic not in topics]

    @property
    def held_s(self) -> float:
        """How many seconds the messages span."""
        return self._newest_s - self._messages[0].received_s if self._messages else 0.0

    @property
    def is_cut(self) -> bool:
        """Whether something is missing of the wanted seconds because there was no memory for it."""
        return -float("inf") < self._newest_s - self._seconds <= self._cut_s

    def _forget_oldest(self) -> None:
        message = self._messages.popleft()
        self.size -= message.size
        if message.is_state:
            self._states[message.topic] = message
