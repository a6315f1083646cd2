"""A black box whose clock the test sets, and the messages that it is given."""

from __future__ import annotations

import queue
import time
from pathlib import Path

from rosbags.rosbag2 import Reader
from tiny_bag import IMAGE, TYPES, flat, payload, raw

from cnn_perception.black_box.black_box import BlackBox
from cnn_perception.black_box.ring import Kept
from cnn_perception.black_box.settings import CAUSES, BlackBoxSettings

TIMEOUT_S = 60.0
MARKS = "/node/black_box"
FRAMES_PER_S = 10
START_NS = time.time_ns()


def settings(folder: Path, **changes) -> BlackBoxSettings:
    wanted = {
        "before_s": 2.0,
        "after_s": 1.0,
        "causes": CAUSES,
        "unknown_streak": 3,
        "max_mb": 100.0,
        "memory_mb": 10.0,
    }
    return BlackBoxSettings(folder=folder, **wanted | changes)


def frame(number: int, side: int = 4, topic: str = "/camera") -> Kept:
    """The frame of this number of a camera of 10 Hz; its height is the number."""
    image = payload(raw(flat((1, 2, 3), number + 1, side), START_NS + number))
    return Kept(topic, IMAGE, START_NS + number * 10**9 // FRAMES_PER_S, number / FRAMES_PER_S, image)


class Bench:
    """A black box, its clock, and what it says."""

    def __init__(self, folder: Path, **changes) -> None:
        self.now_s = 0.0
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.warned: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.failed: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self.folder = folder
        self.box = BlackBox(
            settings(folder, **changes), MARKS, self.said.put, self.warned.put, self.failed.put, lambda: self.now_s
        )
        self.box.begin()

    def receive(self, first: int, last: int, **options) -> None:
        """Hands in the frames of these numbers, each at its time."""
        for number in range(first, last + 1):
            self.now_s = number / FRAMES_PER_S
            self.box.keep(frame(number, **options))

    def trigger(self, at_s: float, cause: str = "service", text: str = "asked") -> str:
        self.now_s = at_s
        incident = self.box.trigger(cause, text)
        return str(incident.path) if incident is not None else ""

    def save(self, at_s: float, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
        """What the service answers."""
        self.now_s = at_s
        return self.box.save("service", "asked", timeout_s)

    def wait_until_written(self) -> None:
        """Waits until nothing waits for the disk; the worker has then looked at the clock, too."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.box.report().waiting_bytes:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def saved(self) -> str:
        """Waits for the next bag that is whole; returns what was said of it."""
        while True:
            self.box.report()  # as diagnostics do once a second
            try:
                text = self.said.get(timeout=0.05)
            except queue.Empty:
                continue
            if text.startswith("saved "):
                return text

    def bags(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_dir())


def numbers(bag: Path, topic: str = "/camera") -> list[int]:
    """The frames of a bag, in the order of its messages."""
    with Reader(bag) as reader:
        found = [TYPES.deserialize_cdr(data, c.msgtype) for c, _, data in reader.messages() if c.topic == topic]
    return [message.height - 1 for message in found]


def marks(bag: Path) -> list[str]:
    with Reader(bag) as reader:
        return [TYPES.deserialize_cdr(data, c.msgtype).data for c, _, data in reader.messages() if c.topic == MARKS]
