"""Records the drive past the drawn signs as a bag with boxes in its images, and what each of them shows.

    python -m demo.boxes --output DIR

leaves the rosbag2 DIR with /image_raw/compressed, /detector/detections (vision_msgs/Detection2DArray: boxes about
things, a little off, as a detector that knows no classes finds them) and /truth/detections (the same things exactly,
with their classes). The same seed draws the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.bag.message_types import COMPRESSED_IMAGE_TYPE, DETECTIONS_TYPE
from cnn_perception.bag.messages import Messages
from cnn_perception.bag.writer import BagWriter
from cnn_perception.commands import exit_code
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import EXIT_OK, ConfigError
from cnn_perception.image.jpeg_encoding import encode_jpeg
from cnn_perception.regions.box import Box
from demo.lens import expose
from demo.scene import project, render
from demo.shots import CLEAR, Drive, DriveSettings, Shot

IMAGES, ROIS, TRUTH = "/image_raw/compressed", "/detector/detections", "/truth/detections"
_THINGS = ("tree", "bush", "house", "car", "billboard")
"""Scenery that a detector finds, too; none of it is a sign."""
_MOST_THINGS = 4
_LEAST_PIXELS = 24
"""Of a side; a detector finds nothing smaller."""
_OFF = 0.04
"""By which share of its sides a detector's box is off, as a standard deviation."""
_START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Thing:
    """A thing in a picture: where it is, and which class a classifier should give it."""

    box: Box
    class_name: str


def things(shot: Shot) -> list[Thing]:
    """Returns the sign of a picture, if it has one, and its largest scenery; the nearest first."""
    found: list[Thing] = []
    name = shot.board.name if shot.board is not None else ""
    for number, panel in enumerate(sorted(shot.panels, key=lambda panel: panel.order)):
        is_sign = bool(name) and panel.name == name
        scenery = sum(thing.class_name == CLEAR for thing in found)
        if not is_sign and (panel.name not in _THINGS or scenery == _MOST_THINGS):
            continue
        seen = project(panel, shot.view)
        if seen is None:
            continue
        covered = seen.patch[..., 3] > 0.5
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        if len(rows) < _LEAST_PIXELS or len(columns) < _LEAST_PIXELS:
            continue
        top, left = seen.region[0].start + int(rows[0]), seen.region[1].start + int(columns[0])
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        box = Box(left + width / 2, top + height / 2, float(width), float(height), score=1.0, id=f"{number}")
        found.append(Thing(box, name if is_sign else CLEAR))
    return found


def as_detected(thing: Thing, rng: np.random.Generator) -> Box:
    """Returns the box of a thing as a detector finds it: a little off, and not quite sure."""
    x, y, width, height = rng.normal(0.0, _OFF, 4).tolist()
    box = thing.box
    return Box(
        x=box.x + x * box.width,
        y=box.y + y * box.height,
        width=box.width * (1.0 + width),
        height=box.height * (1.0 + height),
        score=float(rng.uniform(0.5, 1.0)),
        id=box.id,
    )


def record(output: Path, settings: DriveSettings) -> None:
    """Writes the bag of a drive.

    Raises:
        ConfigError: If the folder is there already or cannot be made.
    """
    messages = Messages()
    drive = Drive(settings)
    try:
        bag = BagWriter(output, messages.types, {})
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be made ({error.strerror})") from None
    for frame in ProgressBar(range(drive.stops[-1].end), desc="drawing the drive", unit="frame", disable=None):
        time_ns = _START_NS + round(frame * 1e9 / settings.rate_hz)
        header = messages.header(time_ns, "camera")
        shot = drive.shot(frame)
        rng = np.random.default_rng([settings.seed, 4, frame])
        image = expose(render(shot.view, shot.weather, shot.road, shot.panels), shot.lens, rng)
        known = things(shot)
        found = [as_detected(thing, rng) for thing in known]
        exact = [thing.box for thing in known]
        _write(bag, messages, IMAGES, COMPRESSED_IMAGE_TYPE, time_ns, messages.jpeg(header, encode_jpeg(image, 92)))
        rois = to_message(messages, header, found, ["thing"] * len(found))
        _write(bag, messages, ROIS, DETECTIONS_TYPE, time_ns + 1, rois)
        truth = to_message(messages, header, exact, [thing.class_name for thing in known])
        _write(bag, messages, TRUTH, DETECTIONS_TYPE, time_ns + 2, truth)
    bag.close()


def to_message(messages: Messages, header: Any, boxes: Sequence[Box], names: Sequence[str]) -> Any:  # noqa: ANN401
    """Returns boxes with a class each as a vision_msgs/Detection2DArray."""
    found = [_detection(messages, header, box, name) for box, name in zip(boxes, names, strict=True)]
    return messages.of(DETECTIONS_TYPE, header=header, detections=found)


def _detection(messages: Messages, header: Any, box: Box, name: str) -> Any:  # noqa: ANN401
    place = messages.of("vision_msgs/msg/Point2D", x=box.x, y=box.y)
    centre = messages.of("vision_msgs/msg/Pose2D", position=place, theta=box.theta)
    origin = messages.of("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0)
    unturned = messages.of("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
    pose = messages.of("geometry_msgs/msg/Pose", position=origin, orientation=unturned)
    unknown_pose = messages.of("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36))
    hypothesis = messages.of("vision_msgs/msg/ObjectHypothesis", class_id=name, score=box.score)
    kind = "vision_msgs/msg/ObjectHypothesisWithPose"
    return messages.of(
        "vision_msgs/msg/Detection2D",
        header=header,
        results=[messages.of(kind, hypothesis=hypothesis, pose=unknown_pose)],
        bbox=messages.of("vision_msgs/msg/BoundingBox2D", center=centre, size_x=box.width, size_y=box.height),
        id=box.id,
    )


def _write(bag: BagWriter, messages: Messages, topic: str, kind: str, time_ns: int, message: Any) -> None:  # noqa: ANN401
    bag.write(topic, kind, time_ns, messages.serialized(message))


def main(argv: Sequence[str] | None = None) -> int:
    """Draws and records; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.boxes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the rosbag2; must not exist")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the drive (default: %(default)g)")
    parser.add_argument("--rate", type=float, default=10.0, help="images a second (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="decides the drive (default: %(default)s)")
    given = parser.parse_args(argv)

    def run() -> int:
        record(given.output, DriveSettings(given.seconds, given.rate, given.seed, 480, 640))
        return EXIT_OK

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
