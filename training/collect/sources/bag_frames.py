"""The frames of a recording's image topics, as the evaluator reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.bag.message_types import IMAGE_TYPES
from cnn_perception.bag.reader import Bag, Topic
from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.messages import AS_SENT, EncodedFile, EncodedImage, Overrides
from training.collect.sources.frame import OpenSource, Origin, SourceFrame, safe_name

_TRANSPORT = "compressed"
"""Last part of the name of a topic of sensor_msgs/CompressedImage, by image_transport."""


@dataclass(frozen=True)
class BagFrames:
    """A recording.

    Attributes:
        path: Its folder or file.
        bag: Its name in the data set.
        topics: Image topics to read; empty takes the only one there is.
        overrides: What is known better of the images than they say themselves.
        is_recorded: Whether a perception node's recorder made it, each of whose image topics is a camera.
    """

    path: Path
    bag: str
    topics: tuple[str, ...]
    overrides: Overrides
    is_recorded: bool = False

    @contextmanager
    def opened(self, only: Collection[int] | None = None) -> Iterator[OpenSource]:
        """Opens the recording; see `Source`.

        Raises:
            BagError: If there is no such bag, nothing of it can be read, or the choice of a topic is not clear.
        """
        with Bag(self.path) as bag:
            topics = self._image_topics(bag)
            count = sum(topic.count for topic in topics)
            yield OpenSource(count, self._frames(bag, topics, only), bag.damage, bag.warnings)

    def named(self, bag: str) -> BagFrames:
        """Returns the same under another name in the data set."""
        return dataclasses.replace(self, bag=bag)

    def _image_topics(self, bag: Bag) -> list[Topic]:
        if self.topics:
            return list(dict.fromkeys(bag.image_topic(name) for name in self.topics))
        if not self.is_recorded:
            return [bag.image_topic()]
        names = {topic.name for topic in bag.topics if topic.type in IMAGE_TYPES and topic.count}
        if not names:
            raise BagError(f"{self.path}: there is no image in it; name a recording with an image topic")
        return [bag.image_topic(name) for name in sorted(names)]

    def _frames(self, bag: Bag, topics: Sequence[Topic], only: Collection[int] | None) -> Iterator[SourceFrame]:
        last = max(only, default=-1) if only is not None else None
        index = 0
        for topic in topics:
            camera = camera_of(topic.name)
            folder = f"{safe_name(self.bag)}/{safe_name(camera)}" if len(topics) > 1 else safe_name(self.bag)
            for image in bag.images(topic):
                if last is not None and index > last:
                    return
                if only is None or index in only:
                    stem = f"{folder}/{image.stamp_ns}"
                    origin = Origin(index, self.bag, topic.name, camera, image.stamp_ns, image.log_time_ns, stem)
                    yield SourceFrame(origin, self._content(image.frame))
                index += 1

    def _content(self, frame: EncodedImage | EncodedFile | FrameError) -> EncodedImage | EncodedFile | FrameError:
        if isinstance(frame, FrameError) or self.overrides == AS_SENT:
            return frame
        return frame.overridden(self.overrides)


def camera_of(topic: str) -> str:
    """Returns a camera's name by its topic: `front` of `/front/image_raw/compressed`, `image` of `/image`."""
    parts = topic.strip("/").split("/")
    if len(parts) > 1 and parts[-1] == _TRANSPORT:
        parts.pop()
    return "/".join(parts[:-1] or parts)
