"""Everything that the page shows of one perception node, and which of its cameras somebody is looking at."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception.dashboard_node.camera_history import Answer, CameraHistory
from cnn_perception.tasks.registry import TASKS
from cnn_perception.tasks.rules import TaskRules

PRESENCE_S = 3.0
"""Nobody looks at a camera that was not asked for so long; an open page asks several times a second."""
SILENT_S = 3.0
SILENT_GAPS = 2.5
"""A node is silent that has not been heard for so long, and for so many times the gap between its diagnoses, which may
be a minute."""
MOST_CAMERAS = 64
"""Names come from the graph, where anybody may say any."""
MOST_STATUSES = 256
"""Of a diagnosis: those of so many cameras, with their boxes, and all others."""
_LONGEST_NAME = 200
"""Characters of a status's, the node's name included: topics must not be longer."""
_CAMERA_NAME = re.compile("([A-Za-z][A-Za-z0-9_]*)?")
"""As the perception node takes them: topics are named by them."""
_TOPIC_NAME = re.compile("(/[A-Za-z_][A-Za-z0-9_]*)+")
_MOST_OTHERS = 4
_MOST_ANSWERS = 3000
"""In one answer to the page: a minute at 50 Hz."""
_CAMERA = "camera"
_MODEL = "model"


@dataclass(frozen=True)
class Status:
    """One status of the node's diagnostics.

    Attributes:
        name: Without the node's, such as `camera front` or `model`.
        level: 0 in order, 1 a warning, 2 an error, 3 not heard of.
        message: What is to be said.
        values: Figures and texts by their name.
    """

    name: str
    level: int
    message: str
    values: Mapping[str, str]


class Board:
    """What is known of the node; every method may be called from any thread.

    Attributes:
        node: Fully qualified name of the perception node.
        history_s: How long answers are kept, seconds.
    """

    def __init__(self, node: str, history_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begins with nothing known.

        Args:
            node: Fully qualified name of the perception node.
            history_s: How long answers are kept, seconds.
            clock_s: Seconds of any monotonic clock.
        """
        self.node = node
        self.history_s = history_s
        self._clock_s = clock_s
        self._lock = threading.Lock()  # guards all below
        self._statuses: tuple[Status, ...] = ()
        self._heard_s: float | None = None
        self._gaps_s: deque[float] = deque(maxlen=2)  # between diagnoses; one may be that of a node that was away
        self._histories: dict[str, CameraHistory] = {}
        self._asked_s: dict[str, float] = {}
        self._others: set[str] = set()

    def is_ours(self, name: str) -> bool:
        """Returns whether a status of this name is about this node."""
        return name.startswith(f"{self.node}: ") and len(name) <= _LONGEST_NAME

    def diagnosed(self, statuses: Sequence[Status]) -> None:
        """Takes a diagnosis, of this node or any other: what is none of this node's is left out."""
        ours = [one for one in statuses if self.is_ours(one.name)][:MOST_STATUSES]
        if not ours:
            return
        start = len(f"{self.node}: ")
        short = tuple(Status(one.name[start:], one.level, one.message, one.values) for one in ours)
        with self._lock:
            now_s = self._clock_s()
            if self._heard_s is not None:
                self._gaps_s.append(now_s - self._heard_s)
            self._statuses = short
            self._heard_s = now_s

    def heard_of_another(self, name: str) -> None:
        """Notes the name of another perception node, as its diagnosis begins."""
        if len(name) <= _LONGEST_NAME and _TOPIC_NAME.fullmatch(name):
            with self._lock:
                if len(self._others) < _MOST_OTHERS:
                    self._others.add(name)

    @property
    def silence(self) -> str:
        """Says that nothing was ever heard of the node, and which others there are; empty once it was."""
        with self._lock:
            if self._heard_s is not None:
                return ""
            others = ", ".join(sorted(self._others))
        way = f"the parameter perception_node may be meant to be {others}" if others else "check ROS_DOMAIN_ID"
        return f"nothing heard of {self.node}; {way}"

    @property
    def cameras(self) -> list[str]:
        """The names of the node's cameras; that of an only one is empty."""
        with self._lock:
            names = [one.name for one in self._statuses]
        found = [name[len(_CAMERA) + 1 :] for name in names if name.split(" ")[0] == _CAMERA]
        return [*dict.fromkeys(name for name in found if _CAMERA_NAME.fullmatch(name))][:MOST_CAMERAS]

    @property
    def model(self) -> Mapping[str, str]:
        """What the node says of its model; nothing before it does."""
        with self._lock:
            return next((one.values for one in self._statuses if one.name == _MODEL), {})

    @property
    def task(self) -> TaskRules | None:
        """The task of the node's model; None while it is not known."""
        return TASKS.get(self.model.get("task", ""))

    def topic(self, camera: str, key: str) -> str:
        """Returns a topic of a camera by what the node says, remapping applied; empty where it says none.

        Args:
            camera: Its name.
            key: Of `topic_names`, such as `ANSWERS_KEY`.
        """
        with self._lock:
            name = f"{_CAMERA} {camera}".rstrip()
            said = next((one.values.get(key, "") for one in self._statuses if one.name == name), "")
        return said if len(said) <= _LONGEST_NAME and _TOPIC_NAME.fullmatch(said) else ""

    def history(self, camera: str) -> CameraHistory | None:
        """Returns the history of a camera; None where the node has none of this name."""
        known = self.cameras
        with self._lock:
            if camera in known and camera not in self._histories:
                if len(self._histories) >= MOST_CAMERAS:  # of cameras that came and went
                    self._histories = {name: one for name, one in self._histories.items() if name in known}
                    self._asked_s = {name: asked_s for name, asked_s in self._asked_s.items() if name in known}
                self._histories[camera] = CameraHistory(self.history_s)
            return self._histories.get(camera)

    def look(self, camera: str) -> None:
        """Notes that somebody looks at a camera now."""
        if self.history(camera) is not None:
            with self._lock:
                self._asked_s[camera] = self._clock_s()

    def watched(self) -> set[str]:
        """Returns the cameras that somebody looks at."""
        with self._lock:
            now_s = self._clock_s()
            return {camera for camera, asked_s in self._asked_s.items() if now_s - asked_s < PRESENCE_S}

    def state(self, camera: str, after: int) -> dict[str, Any]:
        """Returns what the page shows, as JSON has it.

        Args:
            camera: Which of the cameras.
            after: Number of the last answer that the page has.
        """
        history = self.history(camera)
        answers = history.answers_after(after, _MOST_ANSWERS) if history else []
        unsure = history.unsure() if history else []
        cameras = self.cameras
        task = self.task
        silence = self.silence  # first: a node that is heard meanwhile is not said to be silent without a word
        with self._lock:
            now_s = self._clock_s()
            statuses, heard_s = self._statuses, self._heard_s
            patience_s = max(SILENT_S, SILENT_GAPS * min(self._gaps_s, default=0.0))
        return {
            "node": self.node,
            "now_s": now_s,
            "silence_s": None if heard_s is None else now_s - heard_s,
            "silence": silence,
            "is_silent": heard_s is None or now_s - heard_s > patience_s,
            "cameras": cameras,
            "is_scored": task is None or task.has_classes,
            "statuses": [vars(one) | {"values": dict(one.values)} for one in statuses],
            "answers": [as_json(one) for one in answers],
            "unsure": [as_json(one) for one in unsure],
        }


def as_json(one: Answer) -> dict[str, Any]:
    """Returns an answer as the page has it: nanoseconds as text, for it has 53 bits; None for NaN."""
    values = [(name, value if math.isfinite(value) else None) for name, value in one.values]
    return vars(one) | {"stamp_ns": str(one.stamp_ns), "values": values}
