"""Which boxes belong to which image: those with its stamp, to the nanosecond. Either may come first, and waits.

Nothing waits for longer than it may, and images only as far as memory has room; nobody waits for anything. Where nobody
can tell which image was meant, the boxes are refused.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from cnn_perception.errors import FrameError
from cnn_perception.image.decoded import Seen

ImageT = TypeVar("ImageT")
BoxesT = TypeVar("BoxesT")

UNMATCHED, DUPLICATE, AMBIGUOUS, FRAME_ID = "rois_unmatched", "rois_duplicate", "rois_ambiguous", "rois_frame_id"
TURNED = "rois_image_turned"
STAMP_ZERO = "stamp_zero"
"""Why boxes are refused, as it is counted."""
MOST_BYTES = 256 * 2**20
"""Of the images of one camera that wait: 40 of 1920x1080."""
_MOST_BOXES = 256
"""Messages of boxes that wait for their image."""
_MOST_BOXES_BYTES = 2**26
"""The same in bytes: thousands of messages of a usual detector."""


def is_same_frame(frame_id: str, of_image: str) -> bool:
    """Returns whether boxes or a calibration may be of this camera, as far as frame_ids tell: an empty one does not.

    The stamps of synchronised cameras are equal.
    """
    ours, theirs = of_image.lstrip("/"), frame_id.lstrip("/")
    return not (ours and theirs) or ours == theirs


def require_same_frame(of_boxes: str, of_image: str) -> None:
    """Makes sure of the same.

    Raises:
        FrameError: If they name another frame.
    """
    if not is_same_frame(of_boxes, of_image):
        text = f"the boxes are of frame_id {of_boxes[:100]!r}, the image of {of_image[:100]!r}: of another camera"
        raise FrameError(FRAME_ID, text)


def require_upright(seen: Seen) -> None:
    """Makes sure that there is one way to look at the image, so that boxes mean the same pixels to all.

    Of a file with an EXIF orientation some decoders turn the picture and some do not, among them those of
    image_transport by its setting `mode`.

    Raises:
        FrameError: If it was turned.
    """
    if seen.turned:
        raise FrameError(
            TURNED,
            "the image is turned as its EXIF orientation says, and no box says whether its detector saw it so; have "
            "the camera publish images without one",
        )


@dataclass(frozen=True, eq=False)
class Pair(Generic[ImageT, BoxesT]):
    """Boxes with their image, which may be known to be unusable.

    Attributes:
        stamp_ns: Of both, nanoseconds.
        image: The image, or why it must not be answered.
        boxes: The message of boxes.
    """

    stamp_ns: int
    image: ImageT | FrameError
    boxes: BoxesT


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[ImageT]):
    item: ImageT
    since_s: float
    size: int = 0


class Matcher(Generic[ImageT, BoxesT]):
    """The images and boxes of one camera that wait for each other; for one thread.

    Attributes:
        lonely_images: How many images no boxes came to, which is no fault: a detector may be slower than its camera.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Begins with nothing; so many bytes of images may wait."""
        self.lonely_images = 0
        self._most_bytes = most_bytes
        self._bytes = 0
        self._boxes_bytes = 0
        self._beyond_memory = 0  # images
        # By stamp, in the order of arrival; what was matched lately is known by when that was.
        self._images: OrderedDict[int, _Waiting[ImageT | FrameError]] = OrderedDict()
        self._boxes: OrderedDict[int, _Waiting[BoxesT]] = OrderedDict()
        self._matched: OrderedDict[int, float] = OrderedDict()

    def add_image(
        self, stamp_ns: int, image: ImageT | FrameError, size: int, now_s: float
    ) -> Pair[ImageT, BoxesT] | None:
        """Takes an image, and returns it with the boxes that have waited for it, if there are any.

        Args:
            stamp_ns: Its stamp, nanoseconds; one without a stamp is nobody's.
            image: The image, or why it must not be answered.
            size: Bytes that it takes while it waits.
            now_s: Seconds of any monotonic clock.
        """
        if stamp_ns <= 0 or stamp_ns in self._matched:
            return None
        if stamp_ns in self._boxes:
            boxes = self._take_boxes(stamp_ns)
            self._matched[stamp_ns] = now_s
            return Pair(stamp_ns, image, boxes)
        known = self._images.get(stamp_ns)
        if known is None:
            self._images[stamp_ns] = _Waiting(image, now_s, size)
            self._bytes += size
            self._keep_to_memory()
        elif known.item != image:
            text = "several images have the stamp of these boxes: nobody can tell which is meant"
            self._bytes -= known.size
            self._images[stamp_ns] = _Waiting(FrameError(AMBIGUOUS, text), known.since_s)
        return None

    def add_boxes(
        self, stamp_ns: int, boxes: BoxesT, now_s: float, size: int = 0
    ) -> Pair[ImageT, BoxesT] | FrameError | None:
        """Takes a message of boxes, and returns it with its image if that is there, or why it is refused.

        Args:
            stamp_ns: Its stamp, nanoseconds.
            boxes: The message.
            now_s: Seconds of any monotonic clock.
            size: Bytes that they take while they wait.
        """
        if stamp_ns <= 0:
            return FrameError(STAMP_ZERO, "boxes without a stamp; the detector must copy the header of its image")
        if stamp_ns in self._matched or stamp_ns in self._boxes:
            return FrameError(DUPLICATE, "boxes for this image came before: the first ones count")
        if stamp_ns in self._images:
            waiting = self._images.pop(stamp_ns)
            self._bytes -= waiting.size
            self._matched[stamp_ns] = now_s
            return Pair(stamp_ns, waiting.item, boxes)
        self._boxes[stamp_ns] = _Waiting(boxes, now_s, size)
        self._boxes_bytes += size
        return None

    def expire(self, now_s: float, wait_s: float) -> list[FrameError]:
        """Gives up what has waited for so many seconds, and returns why, for each message of boxes among it."""
        until_s = now_s - wait_s
        while self._images and next(iter(self._images.values())).since_s <= until_s:
            self._drop_oldest_image()
        while self._matched and next(iter(self._matched.values())) <= until_s:
            self._matched.popitem(last=False)
        given_up = 0
        while self._boxes and (self._has_too_many_boxes or next(iter(self._boxes.values())).since_s <= until_s):
            self._take_boxes(next(iter(self._boxes)))
            given_up += 1
        text = f"no image with the stamp of these boxes came within {wait_s:g} s; the detector must copy the header of "
        text += "its image, and see this node's topic of images"
        if self._beyond_memory:
            text += f"; {self._beyond_memory} images went before that, for want of room: see rois_wait_s"
        return [FrameError(UNMATCHED, text)] * given_up

    @property
    def _has_too_many_boxes(self) -> bool:
        return len(self._boxes) > _MOST_BOXES or self._boxes_bytes > _MOST_BOXES_BYTES

    def _take_boxes(self, stamp_ns: int) -> BoxesT:
        waiting = self._boxes.pop(stamp_ns)
        self._boxes_bytes -= waiting.size
        return waiting.item

    def _keep_to_memory(self) -> None:
        while self._bytes > self._most_bytes and len(self._images) > 1:
            self._drop_oldest_image()
            self._beyond_memory += 1

    def _drop_oldest_image(self) -> None:
        _, waiting = self._images.popitem(last=False)
        self._bytes -= waiting.size
        self.lonely_images += 1
