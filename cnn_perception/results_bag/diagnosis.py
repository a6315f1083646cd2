"""How an evaluation fares from frame to frame, as diagnoses that a viewer shows beside the images."""

from __future__ import annotations

from collections import Counter

from cnn_perception.bag.messages import Status
from cnn_perception.label_text import shown, text_of
from cnn_perception.results_bag.evaluated_frame import EvaluatedFrame

FRAME = "evaluate_bag: frame"
SUMMARY = "evaluate_bag: summary"
_OK, _WARN, _ERROR = 0, 1, 2


def verdict(frame: EvaluatedFrame) -> str:
    """Returns what became of a frame: `right`, `wrong`, `unjudged` or `bad`."""
    if frame.prediction is None:
        return "bad"
    return {True: "right", False: "wrong", None: "unjudged"}[frame.is_right]


class Diagnosis:
    """Counts the frames in their order."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def of(self, frame: EvaluatedFrame) -> list[Status]:
        """Returns the diagnoses of the next frame, and of all up to it."""
        self._counts[verdict(frame)] += 1
        return [_of_frame(frame), self._summary()]

    def _summary(self) -> Status:
        counts = self._counts
        judged = counts["right"] + counts["wrong"]
        text = f"{counts['right']} of {judged} right so far" if judged else "no frame could be judged so far"
        values = {"frames": str(counts.total())} | {name: str(counts[name]) for name in _NAMES}
        return Status(SUMMARY, _ERROR if counts["bad"] else _OK, text, values)


_NAMES = ("right", "wrong", "unjudged", "bad")
_LEVELS = {"right": _OK, "wrong": _WARN, "unjudged": _OK, "bad": _ERROR}


def _of_frame(frame: EvaluatedFrame) -> Status:
    found = verdict(frame)
    truth = shown(text_of(frame.truth)) if frame.truth is not None else ""
    text = frame.error or f"{found}: {shown(frame.answer)}" + (f", truth {truth}" if found == "wrong" else "")
    values = {
        "index": str(frame.index),
        "stamp (ns)": str(frame.image.stamp_ns),
        "answer": frame.answer,
        "truth": text_of(frame.truth),
    }
    return Status(FRAME, _LEVELS[found], text, values)
