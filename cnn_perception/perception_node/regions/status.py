"""How the boxes of a camera fare, as a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from cnn_perception.perception_node.diagnostics import at_rest, frames_warning, to_status
from cnn_perception.perception_node.regions.counters import BoxCounts
from cnn_perception.perception_node.regions.stream import RegionStream
from cnn_perception.regions.answering import BEYOND
from cnn_perception.stream.frame_counters import Snapshot

_MOST_SHARE = 0.5
"""Of the boxes since the last diagnosis more than this share cannot be answered: they are hardly of these images."""
_LOSSES = "boxes or images were lost on the way; see the camera's own diagnosis"


@dataclass(frozen=True)
class RegionStatus:
    """What is known of the boxes of one camera at the moment of a diagnosis.

    Attributes:
        camera: Its name; empty for the only one.
        topic: Of the boxes.
        active: Whether the node is subscribed.
        enabled: Whether anything is answered.
        snapshot: What became of the messages of boxes.
        boxes: What became of the boxes.
        recent: The same since the previous diagnosis.
        lonely_images: How many images no boxes came to.
        silence: Why no boxes come; empty while they come, or it is too soon to tell.
        stalled: That the thread which answers stands still; empty while it does not.
        unheard: Topic of the answers if nobody subscribes to them; empty otherwise.
        suspicion: That the boxes may not be in pixels of their images; empty where nothing speaks for it.
    """

    camera: str
    topic: str
    active: bool
    enabled: bool
    snapshot: Snapshot
    boxes: BoxCounts
    recent: BoxCounts
    lonely_images: int
    silence: str
    stalled: str
    unheard: str
    suspicion: str

    def to_message(self, node: str, refusal: str) -> DiagnosticStatus:
        """Returns the diagnosis.

        Args:
            node: Fully qualified name of the node.
            refusal: Why the node is not in the state that was asked for; empty where it is.
        """
        level, text = self._judged() if self.active else at_rest("the node is not active", refusal)
        total = self.snapshot.total
        values = {
            "topic": self.topic,
            "received": str(total.received),
            "answered": str(total.answered),
            "overtaken": str(total.overtaken),
            "lost on the way": str(total.lost),
            "boxes answered": str(self.boxes.answered),
            "images without boxes": str(self.lonely_images),
            "boxes of another frame_id": str(self.boxes.foreign),
        }
        values |= {f"dropped: {reason}": str(count) for reason, count in sorted(total.dropped.items())}
        values |= {f"boxes left out: {why}": str(count) for why, count in sorted(self.boxes.refusals.counts.items())}
        values |= self.snapshot.stage_values()
        return to_status(level, f"{node}: rois {self.camera}".rstrip(), text, node, values)

    def _judged(self) -> tuple[bytes, str]:
        """Returns the level while the node is active, and the worst trouble or what is done."""
        if self.stalled:
            return DiagnosticStatus.ERROR, f"no boxes are answered: {self.stalled}"
        if broken := self.snapshot.newly_broken:
            return DiagnosticStatus.ERROR, f"the boxes of {broken} images met a defect of this node; see its log"
        if warning := self._warning():
            return DiagnosticStatus.WARN, warning
        if not self.enabled:
            return DiagnosticStatus.OK, "disabled by ~/set_enabled"
        if self.unheard:
            return DiagnosticStatus.OK, f"idle: nobody subscribes to {self.unheard}"
        return DiagnosticStatus.OK, f"the boxes of {self.snapshot.output_rate_hz:.1f} images/s answered"

    def _warning(self) -> str:
        """Says what is wrong with the boxes; empty if nothing is."""
        if self.silence:
            return f"no boxes come on {self.topic}: {self.silence}"
        if warning := frames_warning(self.snapshot, _LOSSES):
            return f"boxes: {warning}"
        recent = self.recent
        if recent.foreign and not (recent.answered or recent.refusals.total):
            return f"all boxes on {self.topic} have another frame_id than the images: they are of another camera"
        left_out = recent.refusals.without({BEYOND})
        asked = left_out.total + recent.answered
        if left_out.total > _MOST_SHARE * asked:
            return f"{left_out.total} of {asked} boxes cannot be answered {left_out.in_words()}"
        if self.suspicion:
            return self.suspicion
        beyond = recent.refusals.counts[BEYOND]
        return f"{beyond} boxes were left out beyond rois_max" if beyond else ""


def region_status(stream: RegionStream, enabled: bool, timeout_s: float, stalled: str) -> RegionStatus:
    """Returns how the boxes of a camera fare now, with rates since the previous call.

    Args:
        stream: The boxes.
        enabled: Whether anything is answered.
        timeout_s: Seconds without boxes after which it is said who publishes them.
        stalled: See `RegionStatus`.
    """
    if stream.is_active:
        stream.expire_now()
    total, recent = stream.counters.boxes()
    return RegionStatus(
        camera=stream.name,
        topic=stream.topic,
        active=stream.is_active,
        enabled=enabled,
        snapshot=stream.counters.snapshot(),
        boxes=total,
        recent=recent,
        lonely_images=stream.lonely_images,
        silence=stream.silence(timeout_s) if stream.is_active else "",
        stalled=stalled,
        unheard="" if stream.is_wanted else stream.outputs.answer_topic,
        suspicion=stream.counters.suspicion(),
    )
