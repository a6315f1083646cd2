"""The frames of one running camera that were taken, and the data set that they are added to."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np

from cnn_perception.image.kept_file import as_file
from cnn_perception.image.messages import AS_SENT, decode_frame, encoded_from_message, nanoseconds
from cnn_perception.stream.frozen import PictureSample
from cnn_perception.stream.odd_pictures import OddPictures
from training.collect import choice, parts
from training.collect.description import Describer, Vector
from training.collect.options import CollectOptions
from training.collect.placing import part_of_new
from training.collect.set_folder import SetWriter, answer_cells, next_group
from training.collect.sources.bag_frames import camera_of
from training.collect.sources.frame import Origin, safe_name
from training.data_set import columns

_SAVED_EVERY_S = 1.0
"""So often the rows of frames that nobody has asked for follow their images; those of others do at once."""
_MOST_SAVING = 0.05
"""Share of the time that goes into writing a table, which grows."""


class Collection:
    """Frames of one camera on their way into a data set; for one thread at a time.

    Attributes:
        alike: How many were left out because they look like the last one taken.
    """

    def __init__(
        self,
        options: CollectOptions,
        describer: Describer,
        writer: SetWriter,
        clock_s: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        """Begins with none.

        Args:
            options: What is collected from where.
            describer: Looks at each frame.
            writer: Adds to the data set.
            clock_s: Seconds of any monotonic clock.
            say: Is told what is odd about the pictures, each kind once.
        """
        self.alike = 0
        self._writer = writer
        self._options = options
        self._describer = describer
        self._clock_s = clock_s
        self._say = say
        self._odd = OddPictures()
        self._bag = f"live_{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"
        self._part = part_of_new(self._bag, writer.table, options.division)
        self._look: Vector | None = None
        self._vectors: list[Vector] = []
        self._guesses: list[str] = []
        self._times_ns: list[int] = []
        self._next_save_s = clock_s()

    @property
    def count(self) -> int:
        """How many were taken."""
        return len(self._vectors)

    @property
    def is_full(self) -> bool:
        """Whether as many were taken as are wanted."""
        return self._options.budget is not None and self.count >= self._options.budget

    def take(self, message: Any, topic: str) -> str:  # noqa: ANN401 - of rclpy
        """Adds the image of a message; one that nobody has asked for is left out where it looks like the last one.

        Args:
            message: A sensor_msgs/Image or CompressedImage.
            topic: Fully qualified name of the topic on which it came.

        Returns:
            The path of its image in the data set; empty where it was left out.

        Raises:
            FrameError: If the image cannot be used.
            DataError: If it cannot be written.
        """
        content = encoded_from_message(message)
        if self._options.overrides != AS_SENT:
            content = content.overridden(self._options.overrides)
        decoded = decode_frame(content)
        image, stamp_ns = decoded.image, nanoseconds(message.header.stamp)
        for oddity in self._odd.add(decoded.seen, PictureSample.of(image, stamp_ns)):
            self._say(f"warning: {oddity.kind}: {oddity.text}")
        seen = self._describer(image)
        is_wanted = self._options.trigger != "rate"
        if not is_wanted and self._is_alike(seen.look):
            self.alike += 1
            return ""
        stem = f"{safe_name(self._bag)}/{stamp_ns}"
        received_ns = time.time_ns()
        origin = Origin(self.count, self._bag, topic, camera_of(topic), stamp_ns, received_ns, stem)
        data, suffix = as_file(content, image)
        about = {columns.PART: self._part or "train", columns.REASON: self._options.trigger}
        path = self._writer.add(origin, data, suffix, {**answer_cells(seen.answer), **about})
        self._look = seen.look
        self._vectors.append(seen.vector)
        self._guesses.append("" if seen.answer is None else seen.answer.guess)
        self._times_ns.append(received_ns)
        if is_wanted or self._clock_s() > self._next_save_s:
            self._save()
        return path

    def finish(self) -> None:
        """Writes what is not written yet, the groups of look-alikes, and the parts of a data set's only recording.

        Raises:
            DataError: If the table cannot be written.
        """
        if not self._vectors:
            return
        numbers = choice.group_numbers(np.stack(self._vectors), self._guesses, next_group(self._writer.table))
        self._writer.amend([{columns.CLUSTER: number} for number in numbers])
        if self._part is None:
            ends = parts.ends_of(self._bag, self._times_ns, self._options.division.without_gap())
            places = [ends.place(time_ns) for time_ns in self._times_ns]
            self._writer.amend([{columns.PART: one.part, columns.BAG: one.bag} for one in places if one is not None])
        self._writer.save()

    def _save(self) -> None:
        began_s = self._clock_s()
        self._writer.save()
        ended_s = self._clock_s()
        self._next_save_s = ended_s + max(_SAVED_EVERY_S, (ended_s - began_s) / _MOST_SAVING)

    def _is_alike(self, look: Vector) -> bool:
        distance = np.inf if self._look is None else np.linalg.norm(look - self._look)
        return float(distance) < self._options.min_distance
