"""Videos written by PyAV, where it is installed: VP8 in WebM, several times as quick as by OpenCV."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from cnn_perception.errors import DataError
from cnn_perception.evaluation.recording.video_file import MOST_ENCODERS, WEBM, VideoFile, fitted, segments
from cnn_perception.evaluation.replay import WORKERS, in_order
from cnn_perception.image.messages import RgbImage

if TYPE_CHECKING:
    import av
    from av.video.codeccontext import VideoCodecContext

_CODEC = "libvpx"
_PIXELS = "yuv420p"
_SETTINGS = {"deadline": "realtime", "cpu-used": "-8", "crf": "10"}
"""Of libvpx. At 640x480 a frame takes 3 to 4 ms of a core; by its defaults, which OpenCV cannot change, 17 to 30. PSNR
is within 0.4 dB of theirs, in a third to three quarters of the bytes. A speed above 0 would follow the load."""
_MOST_BITS_A_PIXEL = 4
"""A rate of bits that is beyond what `crf` takes."""
_FINEST_RATE = 1000
"""Largest denominator of a frame rate in hertz."""


def is_installed() -> bool:
    """Returns whether PyAV is there, and writes VP8."""
    try:
        importlib.import_module("av").CodecContext.create(_CODEC, "w")
    except (ImportError, AttributeError, ValueError):  # the last two: another module of the name, no libvpx
        return False
    return True


class PyAvVideo(VideoFile):
    """A WebM file with VP8; segments are encoded side by side, a core for each."""

    def __init__(self, folder: Path, stem: str, frames_per_second: float, height: int, width: int) -> None:
        """Opens the file.

        Raises:
            DataError: If the folder is not writable.
            ImportError: If PyAV is not installed.
        """
        super().__init__(folder, stem, WEBM, height, width)
        self._av = importlib.import_module("av")
        self._rate_hz = Fraction(frames_per_second).limit_denominator(_FINEST_RATE)
        with self._told():
            # absolute: FFmpeg takes what stands before a colon for a protocol
            self._container = self._av.open(str(self._partial.absolute()), "w")
            self._stream = self._container.add_stream(_CODEC, rate=self._rate_hz)
            self._prepare(self._stream.codec_context)
            self._container.start_encoding()

    def _prepare(self, encoder: VideoCodecContext) -> None:
        encoder.width, encoder.height = self._size
        encoder.pix_fmt = _PIXELS
        encoder.framerate = self._rate_hz
        encoder.time_base = 1 / self._rate_hz
        encoder.bit_rate = int(_MOST_BITS_A_PIXEL * self._size[0] * self._size[1] * self._rate_hz)
        encoder.options = _SETTINGS
        encoder.thread_count = 1

    def write(self, images: Iterable[RgbImage], workers: int = WORKERS) -> None:
        """Appends frames; see `VideoFile`."""
        encoders = min(workers, MOST_ENCODERS)
        with contextlib.closing(in_order(self._encode, segments(images), encoders, waiting=0)) as encoded:
            for packets, count in encoded:
                self._require_frames(len(packets), count)
                with self._told():
                    for packet in packets:
                        self._append(packet)

    def _encode(self, images: Sequence[RgbImage]) -> tuple[list[av.Packet[av.VideoStream]], int]:
        """Returns a segment's packets, one a frame, and the number of its frames."""
        encoder = self._av.CodecContext.create(_CODEC, "w")
        self._prepare(encoder)
        converter = self._av.video.reformatter.VideoReformatter()  # to prepare one takes longer than a frame
        packets = []
        with self._told():
            for place, image in enumerate(images):
                rgb = self._av.VideoFrame.from_ndarray(fitted(image, self._size), format="rgb24")
                frame = converter.reformat(rgb, format=_PIXELS)
                frame.pts = place
                frame.time_base = encoder.time_base
                packets += encoder.encode(frame)
            packets += encoder.encode(None)
        return packets, len(images)

    def _append(self, packet: av.Packet[av.VideoStream]) -> None:
        packet.pts = packet.dts = self._frames
        packet.time_base = 1 / self._rate_hz
        packet.stream = self._stream
        self._container.mux(packet)
        self._frames += 1

    def _close(self) -> None:
        with self._told():
            self._container.close()

    def _packets(self) -> int:
        with self._told(), self._av.open(str(self._partial.absolute())) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Makes one error of what FFmpeg tells.

        Raises:
            DataError: If it tells anything.
        """
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: could not be written ({why}); --no-video does without it") from None
