"""Decodes JPEGs strictly, and tells trouble beside the pixels from damage.

OpenCV and Pillow ignore libjpeg's warnings and return a picture that is grey or shifted below the damage, so every
warning is an error here (simplejpeg's strict mode). Common webcams, however, leave bytes before a marker that belong to
nothing, at which every decoder warns and which spoil no pixel. So where libjpeg's first warning is of such bytes, they
are taken out; what is left must decode without any warning, as every JPEG must.

Damage leaves bytes before a marker, too: a flipped bit makes the decoder lose its place, find it again some blocks
later and finish early. Stray bytes differ in three ways, and must do so in all of them:

- There are few, or all are the same (a buffer's filling), or they end with a 0-bit, as code hardly ever does.
- The code before them ends as an encoder ends it: with 1-bits up to the end of the byte.
- They are not the picture's own last blocks: they do not decode as whole blocks up to their end.

Others leave out the end marker, or have a buffer's zeros in its place. Whether a picture without it is whole, its code
says where it is one sequential scan of all colours: libjpeg warns of one block that is missing.

Three kinds of JPEG are refused by their frame's marker: libjpeg's decoders of 8 bits do not read 12 bits and lossless
ones; arithmetic code it reads, but fills up what is cut off of it without a warning. So are samplings of colours that
TurboJPEG has no name for: what decodes them all the same ignores warnings.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from cnn_perception.errors import FrameError
from cnn_perception.image.decoded import ImageOddity
from cnn_perception.image.limits import check_pixels

_Pixels = npt.NDArray[Any]

_FEW_BYTES = 8
_MOST_STRAY_BYTES = 32
_MOST_PLACES = 512
"""More stray bytes that are not all the same, or in more places, are damage: this bounds the work on hostile files."""
_MOST_WORK = 2**27
"""Pixels times scans of a file in which stray bytes are looked for: it is decoded some times over."""
_LARGEST_SIDE = 65_500
"""What libjpeg decodes."""

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_BENIGN = ("JFIF revision", "Invalid SOS parameters for sequential JPEG")
"""Warnings of numbers in headers that no decoder uses."""
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_NO_END = "Premature end of JPEG file"
"""libjpeg's warning of a file that ends before its end marker."""
_NO_SAMPLING = "subsampling"
"""A word of TurboJPEG's error about a sampling of colours that it has no name for, such as 4:1:0."""
_MOST_BLOCKS = 10
"""Of an MCU. Source: ITU T.81, B.2.3."""
_SOI, _EOI, _SOS, _DRI, _DHT, _APP0 = 0xD8, 0xD9, 0xDA, 0xDD, 0xC4, 0xE0
_END = bytes((0xFF, _EOI))
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
_TABLES = (_DHT, 0xDB, _DRI, 0xEE)
"""What a scan needs: code, quantisation, restart interval, and Adobe's colour transform."""
_UNREAD = {
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic-coded, which hides what is cut off of it"),
    0xC3: "lossless, which is not read",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical, which is not read"),
    0xF7: "a JPEG-LS, which is not read",
}
"""What is refused, by the marker of its frame. Source: ITU T.81, table B.1, and T.87, C.1.1."""
_TWELVE_BITS = b"\x0c"


def decode_jpeg(content: bytes, most_pixels: int = 0) -> tuple[_Pixels, bool, tuple[ImageOddity, ...]]:
    """Decodes a JPEG.

    Args:
        content: The file.
        most_pixels: What is accepted at all; 0 for `raw.MAX_PIXELS`.

    Returns:
        (H, W, 3) uint8 RGB, EXIF orientation not applied; whether the picture is stored as a grey one; and what is odd
        about the file beside its pixels.

    Raises:
        ValueError: It is truncated or damaged; the text is libjpeg's.
        FrameError: `size`, by its header; `unsupported`, by the kind of its frame or the sampling of its colours.
    """
    _refuse_unread(content)
    try:
        return *_decode_strictly(content, most_pixels), ()
    except ValueError as error:
        warning = str(error)
        if _NO_SAMPLING in warning:
            _refuse_sampling(content)
        is_benign = _EXTRANEOUS.search(warning) or any(words in warning for words in _BENIGN)
        if _NO_END in warning:
            mended = with_end(content)
            odd = ImageOddity("jpeg_without_end", "the JPEG has no end marker; its pixels are whole", harmless=True)
        else:
            mended = without_stray_bytes(content) if is_benign else None
            text = f"the JPEG has bytes that belong to nothing ({warning}); its pixels are whole"
            odd = ImageOddity("jpeg_warning", text, harmless=True)
        if mended is None:
            raise
    return *_decode_strictly(mended, most_pixels), (odd,)


def is_jpeg(content: bytes) -> bool:
    """Whether bytes are a JPEG up to its first scan, which no picture is by chance."""
    try:
        markers = [segment.marker for segment in _segments(content, until_scan=True)]
    except ValueError:
        return False
    return bool(markers) and markers[-1] == _SOS and not _FRAMES.isdisjoint(markers)


def without_stray_bytes(content: bytes) -> bytes | None:
    """Returns a JPEG without the bytes before its markers that belong to nothing; None where it is damaged."""
    try:
        segments = _segments(content)
        if _work(segments) > _MOST_WORK:
            return None
        mended: list[_Segment] = []
        for segment in segments:
            mended.append(_cleaned(mended, segment) if segment.marker == _SOS else _with_known_revision(segment))
    except ValueError:
        return None
    return _file(mended)


def with_end(content: bytes) -> bytes | None:
    """Returns a JPEG that ends before its end marker with one, in place of a buffer's zeros.

    Returns:
        The file, which is whole if it decodes without a warning; None where that would not tell: of a picture in
        several scans the last ones can be missing.
    """
    # Zeros are code of flat blocks, too, and would fill up a picture that is cut. One whose own code ends with a byte
    # of zeros, as that of flat colours does at one place in eight, is taken for cut.
    code = content.rstrip(b"\0")
    if code.endswith(b"\xff") and len(code) < len(content):
        code += b"\0"  # in code, 0xFF has a zero behind it
    return code + _END if _is_one_scan(code + _END) else None


def _is_one_scan(content: bytes) -> bool:
    """Whether a JPEG has all colours in one scan from top to bottom."""
    try:
        segments = _segments(content)
    except ValueError:
        return False
    frames = [one for one in segments if one.marker in _FRAMES]
    scans = [one for one in segments if one.marker == _SOS]
    is_one = len(frames) == len(scans) == 1 and frames[0].marker in _SEQUENTIAL
    return is_one and _has_all_components(frames[0], scans[0])


def _refuse_unread(content: bytes) -> None:
    """Raises FrameError if the picture is coded in a way that is not read."""
    try:
        segments = _segments(content, until_scan=True)
    except ValueError:  # which decoding tells
        return
    for segment in segments:
        kind = _UNREAD.get(segment.marker, "")
        if not kind and segment.marker in _FRAMES and segment.payload[2:3] == _TWELVE_BITS:
            kind = "of 12 bits, which is not read"
        if kind:
            raise _unsupported(kind)


def _refuse_sampling(content: bytes) -> None:
    """Raises FrameError if the sampling of a JPEG's colours, which is not read, is one that can be."""
    try:
        (frame,) = (one for one in _segments(content, until_scan=True) if one.marker in _FRAMES)
    except ValueError:
        return
    factors = [(both >> 4, both & 15) for both in frame.payload[9::3]]
    if all(1 <= one <= 4 for both in factors for one in both) and sum(h * v for h, v in factors) <= _MOST_BLOCKS:
        text = ", ".join(f"{across}x{down}" for across, down in factors)
        raise _unsupported(f"of a sampling of its colours ({text}) that is not read")


def _unsupported(kind: str) -> FrameError:
    return FrameError("unsupported", f"the JPEG is {kind}; publish or save it as a baseline JPEG or PNG")


def _has_all_components(frame: _Segment, scan: _Segment) -> bool:
    return scan.payload[2:3] == frame.payload[7:8]


def _work(segments: Sequence[_Segment]) -> int:
    """Returns how many pixels of how many scans there are."""
    sizes = [
        struct.unpack(">HH", one.payload[3:7]) for one in segments if one.marker in _FRAMES and len(one.payload) > 7
    ]
    scans = sum(one.marker == _SOS for one in segments)
    return scans * max((height * width for height, width in sizes), default=0)


def _decode_strictly(content: bytes, most_pixels: int) -> tuple[_Pixels, bool]:
    height, width, is_grey = _header(content)
    check_pixels(height, width, len(content), most_pixels)
    pixels: _Pixels = simplejpeg.decode_jpeg(content, "RGB")  # CMYK and YCCK as inverted ink: Adobe's convention
    return pixels, is_grey


def _header(content: bytes) -> tuple[int, int, bool]:
    """Returns height and width, and whether it is stored as a grey picture."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except KeyError:  # which simplejpeg raises for 4:4:1, of a 4:1:1 that was turned, though it decodes that
        frames = [one.payload for one in _segments(content, until_scan=True) if one.marker in _FRAMES]
        if not frames or len(frames[0]) < 8:
            raise ValueError("no header of a frame") from None
        return *struct.unpack(">HH", frames[0][3:7]), frames[0][7] == 1
    return height, width, colours == "Gray"


# ---- the parts of the file


@dataclass(frozen=True)
class _Segment:
    """A marker and what follows it.

    Attributes:
        marker: Its second byte.
        payload: Length, and what is as long.
        intervals: Of a scan: its code between restart markers.
    """

    marker: int
    payload: bytes
    intervals: tuple[bytes, ...] = ()

    def __bytes__(self) -> bytes:
        code = b"".join(
            (b"" if number == 0 else bytes((0xFF, _RESTARTS[(number - 1) % 8]))) + interval
            for number, interval in enumerate(self.intervals)
        )
        return bytes((0xFF, self.marker)) + self.payload + code


def _file(segments: Sequence[_Segment]) -> bytes:
    return b"\xff\xd8" + b"".join(map(bytes, segments)) + _END


def _segments(content: bytes, until_scan: bool = False) -> list[_Segment]:
    """Returns the segments from the first to the end marker, or to the first scan's header.

    Raises:
        ValueError: These are not the parts of a JPEG, or too many bytes lie between them.
    """
    segments: list[_Segment] = []
    place = 2
    while True:
        found = _MARKER.search(content, place)
        if found is None or not content.startswith(b"\xff\xd8"):
            raise ValueError("no JPEG")
        between = content[place : found.start()]
        if len(between) > _MOST_STRAY_BYTES and len(set(between)) > 1:
            raise ValueError("bytes between two segments")
        marker = found[1][0]
        if marker == _EOI:
            return segments
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
        payload = content[found.end() : place]
        if marker in _RESTARTS or marker == _SOI or len(payload) < 2 or place > len(content):
            raise ValueError("a marker that cannot be here")
        intervals: tuple[bytes, ...] = ()
        if marker == _SOS and not until_scan:
            intervals, place = _intervals(content, place)
        segments.append(_Segment(marker, payload, intervals))
        if marker == _SOS and until_scan:
            return segments


def _intervals(content: bytes, place: int) -> tuple[tuple[bytes, ...], int]:
    """Returns the code of a scan between its restart markers, and where the marker after it is."""
    intervals: list[bytes] = []
    for found in _MARKER.finditer(content, place):
        intervals.append(content[place : found.start()])
        if found[1][0] not in _RESTARTS:
            return tuple(intervals), found.start()
        if found[1][0] != _RESTARTS[(len(intervals) - 1) % 8]:
            raise ValueError("restart markers out of order")
        place = found.end()
    raise ValueError("no end marker")


def _with_known_revision(segment: _Segment) -> _Segment:
    """Returns the header of a revision of JFIF that nobody knows as one of revision 1: all decode alike."""
    if segment.marker != _APP0 or not segment.payload[2:].startswith(b"JFIF\0"):
        return segment
    return replace(segment, payload=segment.payload[:7] + b"\1" + segment.payload[8:])


# ---- the code of a scan

_FileOf = Callable[[bytes], bytes]
"""Returns the smallest file in which the end of an interval's code can be decoded."""


def _cleaned(before: Sequence[_Segment], scan: _Segment) -> _Segment:
    """Returns a scan without stray bytes at the ends of its intervals.

    Raises:
        ValueError: It is damaged.
    """
    frames = [segment for segment in before if segment.marker in _FRAMES]
    if len(frames) != 1:
        raise ValueError("not one frame")
    if frames[0].marker in _SEQUENTIAL:
        scan = replace(scan, payload=scan.payload[:-3] + b"\x00\x3f\x00")  # it has all the coefficients

    def file_of(*intervals: bytes) -> bytes:
        return _file([*before, replace(scan, intervals=intervals)])

    if not _warning(file_of(*scan.intervals)):
        return scan
    blocks = _BlocksOfScan(frames[0], scan, before) if frames[0].marker in _SEQUENTIAL else None
    if len(scan.intervals) > 1:
        if blocks is None:
            raise ValueError("restart markers of a progressive scan")
        found = _Places(blocks).cleaned(scan.intervals, lambda intervals: not _warning(file_of(*intervals)))
        return replace(scan, intervals=tuple(found))
    return replace(scan, intervals=(_without_stray_end(scan.intervals[0], file_of, blocks),))


class _BlocksOfScan:
    """Makes files of some of the blocks (MCUs) of a sequential scan, one interval's blocks in a row."""

    def __init__(self, frame: _Segment, scan: _Segment, before: Sequence[_Segment]) -> None:
        """Reads the sizes.

        Raises:
            ValueError: The scan does not have all of the frame's components.
        """
        size = frame.payload
        self._frame = frame
        self._scan = scan
        self._before = before
        self.height, self.width = struct.unpack(">HH", size[3:7])
        sampling = [size[place] for place in range(9, len(size), 3)]
        if not sampling or not _has_all_components(frame, scan):
            raise ValueError("a scan of some components only")
        alone = len(sampling) == 1
        self.block_width = 8 if alone else 8 * max(factors >> 4 for factors in sampling)
        self.block_height = 8 if alone else 8 * max(factors & 15 for factors in sampling)
        if not self.block_width or not self.block_height:
            raise ValueError("no sampling factor")
        restarts = [int.from_bytes(one.payload[2:4], "big") for one in before if one.marker == _DRI]
        self.restart = restarts[-1] if restarts else 0
        self.count = -(-self.width // self.block_width) * -(-self.height // self.block_height)

    def file(self, intervals: Sequence[bytes], blocks: int) -> bytes:
        """Returns the file of intervals of so many blocks each.

        Raises:
            ValueError: It would be too large.
        """
        width = blocks * self.block_width
        height = len(intervals) * self.block_height
        if max(width, height) > _LARGEST_SIDE:
            raise ValueError("a row of blocks is too long")
        payload = self._frame.payload
        sized = replace(self._frame, payload=payload[:3] + struct.pack(">HH", height, width) + payload[7:])
        tables = [one for one in self._before if one.marker in _TABLES and (len(intervals) > 1 or one.marker != _DRI)]
        return _file([*tables, sized, replace(self._scan, intervals=tuple(intervals))])


class _Places:
    """Finds the stray bytes between restart markers: halves of the picture that decode without a warning have none."""

    def __init__(self, blocks: _BlocksOfScan) -> None:
        self._blocks = blocks
        self._tried = 0

    def cleaned(self, intervals: Sequence[bytes], is_whole: Callable[[Sequence[bytes]], bool]) -> list[bytes]:
        """Returns the intervals of a picture without their stray ends.

        Args:
            intervals: The code of each.
            is_whole: Whether the picture has no stray bytes with such intervals.

        Raises:
            ValueError: One is damaged, or there are too few or too many.
        """
        blocks = self._blocks
        last_blocks = blocks.count - blocks.restart * (len(intervals) - 1)
        if not 0 < last_blocks <= blocks.restart:
            raise ValueError("intervals are missing")
        first = intervals[:-1]
        last = [self._cleaned_one(intervals[-1], last_blocks)]
        found = self._cleaned(first) + last
        if is_whole([*found]):
            return found
        # libjpeg may carry its count of skipped bytes past restart markers, and warn before a later one or not at all.
        self._tried = 0
        return [self._cleaned_one(code, blocks.restart) for code in first] + last

    def _file(self, intervals: Sequence[bytes], blocks: int) -> bytes:
        """Returns the file of some intervals, the last one twice: libjpeg reads on differently before an end marker."""
        is_end = blocks < self._blocks.restart
        return self._blocks.file(intervals if is_end else [*intervals, intervals[-1]], blocks)

    def _cleaned(self, intervals: Sequence[bytes]) -> list[bytes]:
        blocks = self._blocks.restart
        fits = (len(intervals) + 1) * self._blocks.block_height <= _LARGEST_SIDE
        if fits and not _warning(self._file(intervals, blocks)):
            return list(intervals)
        if len(intervals) == 1:
            return [self._cleaned_one(intervals[0], blocks)]
        half = len(intervals) // 2
        return self._cleaned(intervals[:half]) + self._cleaned(intervals[half:])

    def _cleaned_one(self, code: bytes, blocks: int) -> bytes:
        self._tried += 1
        if self._tried > _MOST_PLACES:
            raise ValueError("stray bytes in too many places")
        return _without_stray_end(code, lambda end: self._file([end], blocks), self._blocks)


def _without_stray_end(code: bytes, file_of: _FileOf, blocks: _BlocksOfScan | None) -> bytes:
    """Returns an interval's code without the stray bytes after it.

    Raises:
        ValueError: It is damaged.
    """
    if _is_short(file_of(code)):
        raise ValueError("the code ends too early")
    most = min(len(code) - 1, _MOST_STRAY_BYTES + len(code) - len(code.rstrip(code[-1:])))
    count = bisect_left(range(1, most + 1), True, key=lambda fewer: _is_short(file_of(code[:-fewer])))
    if count == 0:
        return code
    end = code[:-count]
    stray = code[-count:]
    ones = _ones_at_end(end)
    if not _may_be_stray(stray) or not _is_read(end, ones, file_of):
        raise ValueError("bytes of the picture before a marker")
    if blocks is not None and _are_blocks(stray, ones, blocks):
        raise ValueError("blocks of the picture before a marker")
    return end


def _is_short(file: bytes) -> bool:
    """Whether the code in a file ends before the picture does, or is none."""
    warning = _warning(file)
    return bool(warning) and not _EXTRANEOUS.search(warning)


def _may_be_stray(content: bytes) -> bool:
    """Whether bytes are few, or no code: code ends with 1-bits."""
    return len(content) <= _FEW_BYTES or len(set(content)) == 1 or not content[-1] & 1


def _ones_at_end(code: bytes) -> int:
    """Returns how many 1-bits the last byte ends with."""
    last = 0xFF if code.endswith(b"\xff\0") else code[-1]
    return next((place for place in range(8) if not last >> place & 1), 8)


def _is_read(code: bytes, ones: int, file_of: _FileOf) -> bool:
    """Whether the 0-bit before the last 1-bits is part of the picture, so that only 1-bits are left over."""
    if ones == 8:
        return True
    last = code[-1] | 1 << ones
    changed = code[:-1] + (b"\xff\0" if last == 0xFF else bytes((last,)))
    try:
        return not np.array_equal(simplejpeg.decode_jpeg(file_of(changed)), simplejpeg.decode_jpeg(file_of(code)))
    except ValueError:
        return True


def _are_blocks(stray: bytes, ones: int, blocks: _BlocksOfScan) -> bool:
    """Whether bytes are the picture's own next blocks, of which the first began in the 1-bits before them."""
    return len(set(stray)) > 1 and any(_decode_to_end(stray, lead, blocks) for lead in range(min(ones, 7) + 1))


def _decode_to_end(stray: bytes, lead: int, blocks: _BlocksOfScan) -> bool:
    spare = -lead % 8
    plain = stray.replace(b"\xff\0", b"\xff")
    bits = ((1 << lead) - 1 << 8 * len(plain) | int.from_bytes(plain, "big")) << spare | (1 << spare) - 1
    code = bits.to_bytes(len(plain) + (lead > 0), "big").replace(b"\xff", b"\xff\0")
    for count in range(1, 8 * len(stray) // 6 + 1):  # a block has 6 bits at least
        found = _EXTRANEOUS.search(warning := _warning(blocks.file([code], count)))
        if not warning or (found and int(found[1]) <= (lead > 0)):
            return True
        if not found:
            return False
    return False


def _warning(content: bytes) -> str:
    """Returns libjpeg's first warning of a file; empty where there is none."""
    try:
        simplejpeg.decode_jpeg(content, "GRAY")
    except ValueError as error:
        return str(error)
    return ""
