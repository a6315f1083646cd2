"""Decodes image files in memory: what CompressedImage messages, data sets and folders hold.

The content decides, never a name or a `format` field. Decisions:

- JPEGs are decoded strictly, see `jpeg`. JPEG has no checksum, so damage that leaves a valid stream has no warning and
  stays unseen. PNG has checksums, which are verified; the other formats have none for their pixels.
- HEIC is read where pillow-heif is installed, AVIF where Pillow was built with it.
- Trouble beside the pixels does not cost the picture, but is told as an oddity: stray bytes in a JPEG, chunks of text
  or profile in a PNG that are too large or have a wrong checksum, EXIF that cannot be read: such a picture is taken for
  upright.
- What is known better of a file than it says is the order of its colours, where a driver encoded BGR as if it were
  RGB, or the mosaic that a grey one is; what does not apply to it is told as an oddity.
- EXIF orientation is always applied, as viewers do.
- Alpha of a message is dropped, as that of raw images is, see `raw`. In a file of a folder it is meant, and composited
  over white: the page on which a viewer shows a cut-out picture.
- 16-bit pictures are scaled as 16-bit camera images are. ICC profiles are ignored.
- Of an animation or a multi-page file the first picture is taken, unless it says that it is a preview of another, as in
  the raw files of cameras.
- A message may hold `raw.MAX_PIXELS` pixels, a file of a folder `limits.FILE_PIXELS`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from cnn_perception.errors import FrameError, one_line
from cnn_perception.image.decoded import Decoded, ImageOddity, RgbImage, Seen
from cnn_perception.image.file_formats import (
    HEAD_BYTES,
    PARAMETER_SETS,
    VIDEO,
    file_format,
    has_structure,
    opened,
    refuse_other,
    refuse_unread,
    refuse_video,
)
from cnn_perception.image.jpeg import decode_jpeg
from cnn_perception.image.limits import FILE_PIXELS, check_exif, check_pixels, check_structure, exif_of_jpeg
from cnn_perception.image.raw import (
    AS_SENT,
    ENCODINGS,
    MAX_PIXELS,
    EncodedImage,
    Overrides,
    bits_of,
    decode_raw,
    has_two_bytes,
    seen_in,
    to_uint8,
    unnamed_content,
    unused_bits,
)

_Pixels = npt.NDArray[Any]

_LONG_MAGIC = ("JPEG", "PNG")
"""What three bytes or more tell."""
_PNG_REMARKS = frozenset(
    (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"sBIT", b"sPLT", b"hIST")
)
"""The chunks of a PNG without which its pixels are the same."""
_GREY_ENCODINGS = ("mono", "8UC1", "16UC1", "32FC1", "64FC1")
"""Beginnings of those of images that have no colours."""
_OF_GREY = ("mono", "8UC1", "16UC1", "bayer_")
_OF_COLOURS = ("rgb", "bgr")
"""Beginnings of those that can be known better of grey and of coloured files."""
_MOST_OF_FEW_BITS = 63
"""Of 255: what the largest number of 14 bits in 16 becomes."""
_NEARLY_WHITE = 250
"""Of 255: JPEG blurs."""
_PNG_EXIF = b"eXIf"
"""The chunk that says how a PNG is turned."""
_TURNED_BY_HEIF = "original_orientation"
"""Where pillow-heif says what it has undone."""
_WHOLE_UNDER_ALPHA = ("PNG", "TIFF", "BMP")
"""Of these files transparent pixels have the colours that they were given."""
_ANIMATED = ("PNG", "WEBP", "GIF")
"""Files that can be animations; those of several pages are none."""
_PREVIEW = 254
"""The tag of a TIFF whose lowest bit says that a picture is a smaller one of another. Source: TIFF 6.0."""
_BITS = 258
"""The tag of a TIFF that says how many bits a number has."""
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
"""What that tag says of pictures whose 0 is white, as of scanners and X-rays. Source: TIFF 6.0."""
_UPRIGHT: dict[int, Callable[[_Pixels], _Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""What undoes an EXIF orientation. Source: Exif 2.32, tag 0x0112 Orientation; 1 is upright."""


@dataclass(frozen=True)
class EncodedFile:
    """The content of an image file: what a sensor_msgs/CompressedImage carries, without ROS.

    Attributes:
        data: The bytes of an image file, see `file_formats`.
        format: What image_transport says of it: `rgb8; jpeg compressed bgr8`, `16UC1; png compressed `, or `jpeg`.
        overrides: What is known better: the order of the colours, or the mosaic, that was compressed.
        of_folder: Whether it is a file of a folder or a data set, of which alpha is meant, and no camera's message.
    """

    data: bytes | memoryview
    format: str
    overrides: Overrides = AS_SENT
    of_folder: bool = False

    @classmethod
    def from_folder(cls, data: bytes | memoryview) -> EncodedFile:
        """Takes the content of a file of a folder or a data set, unchecked: decoding checks it."""
        return cls(data, "", of_folder=True)

    @classmethod
    def from_message(cls, message: Any) -> EncodedFile:  # noqa: ANN401 - rclpy's and rosbags' messages share no base
        """Takes the fields of a sensor_msgs/CompressedImage.

        Args:
            message: Any object with its fields; `data` is bytes, array.array or a numpy array, and is not copied.

        Returns:
            The file, unchecked: decoding checks it.
        """
        return cls(data=memoryview(message.data), format=message.format)

    @property
    def most_pixels(self) -> int:
        """How many the picture may have."""
        return FILE_PIXELS if self.of_folder else MAX_PIXELS

    def overridden(self, overrides: Overrides) -> EncodedFile:
        """Returns the file with what is known better of it."""
        return dataclasses.replace(self, overrides=overrides)


@dataclass(frozen=True, eq=False)
class _Picture:
    """What a file holds.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, as they are stored.
        is_grey: Whether a pixel has one number.
        orientation: What EXIF says, 1 to 8.
        turned: Whether the decoder has applied that already.
        numbers: The numbers of 16 bits of which the pixels were made; None where they have 8.
        bits: How many of these were taken to be used; 0 for all.
        oddities: What is odd about the file.
    """

    pixels: _Pixels
    is_grey: bool
    orientation: int = 1
    turned: bool = False
    numbers: _Pixels | None = None
    bits: int = 0
    oddities: tuple[ImageOddity, ...] = ()


def decode_file(file: EncodedFile) -> Decoded:
    """Decodes the picture of a CompressedImage.

    The `format` matters for three things only, since image_transport stores true colours whatever it says there: depth
    and video are refused, and a mosaic is interpolated where it was compressed as if it were a grey picture. What
    stands after `compressed` tells what was compressed; image_transport converts most mosaics to `mono8` or `bgr8`
    before, and keeps their name at the front all the same.

    Args:
        file: What a message brought, or a file of a folder.

    Raises:
        FrameError: As `decode_file_bytes`; `format` also for compressedDepth messages and video.
    """
    if "compressedDepth" in file.format:
        raise FrameError("format", "compressedDepth messages hold distances, no picture; subscribe to the colour image")
    content = bytes(file.data)
    if content and file_format(content) is None:
        refuse_unread(content)
        refuse_video(file.format, content)
    known = file.overrides
    picture = _picture(content, file)
    mosaic = _mosaic(file)
    if mosaic and picture.is_grey:
        height, width, _ = picture.pixels.shape
        grey = picture.pixels[..., 0].tobytes()
        colour = decode_raw(EncodedImage(grey, mosaic, height, width, width, is_bigendian=False)).image
        picture = dataclasses.replace(picture, pixels=colour)
    elif picture.is_grey:
        picture = dataclasses.replace(
            picture, oddities=(*picture.oddities, *_lost_colour(file), *_hidden(picture, file))
        )
    elif known.encoding.startswith("bgr"):
        picture = dataclasses.replace(picture, pixels=np.asarray(cv2.cvtColor(picture.pixels, cv2.COLOR_BGR2RGB)))
    more = (*_lost_bits(picture, file), *_without_effect(known, picture))
    return _upright(dataclasses.replace(picture, oddities=(*picture.oddities, *more)))


def decode_content(data: bytes | memoryview) -> Decoded:
    """Decodes an image file as `decode_file_bytes` does, and tells what is odd about it."""
    return _upright(_picture(bytes(data), EncodedFile.from_folder(data)))


def decode_file_bytes(data: bytes | memoryview) -> RgbImage:
    """Decodes an image file of a data set or a folder.

    Args:
        data: The bytes of a JPEG, PNG, WebP, BMP, TIFF, GIF or PPM; of an AVIF or HEIC where a library is there.

    Returns:
        The first picture in it, upright, alpha composited over white.

    Raises:
        FrameError: By `reason`: `empty`, `format` (none of those files), `size` (above what `limits` allows, by its
            headers), `corrupt` (truncated or damaged), `unsupported` (a JPEG that is not coded as JPEGs are), `depth`
            (32-bit pixels, whose white is undefined).
    """
    return decode_content(data).image


def file_in_pixels(image: EncodedImage) -> EncodedFile | None:
    """Returns the image file that an Image holds in place of pixels; None where it holds pixels.

    A buffer that is too short for pixels, or labelled as a file, is taken for one by its first bytes. Another must have
    the structure of a file: pixels may begin with any bytes.

    Args:
        image: What a message brought.

    Raises:
        FrameError: `format`, if it is a packet of video, or a file that is not read.
    """
    data = memoryview(image.data)
    kind = file_format(bytes(data[:HEAD_BYTES]))
    if kind is None:
        refuse_unread(bytes(data[:HEAD_BYTES]))
        if image.encoding not in ENCODINGS:
            refuse_video(image.encoding)
        if PARAMETER_SETS.match(data[:512]):
            refuse_video(VIDEO[0])
        return None
    cannot_be_pixels = data.nbytes < image.height * image.step or kind.lower()[:2] in image.encoding.lower()
    content = bytes(data)
    if not (cannot_be_pixels and kind in _LONG_MAGIC) and not has_structure(content, kind, (image.width, image.height)):
        return None
    known = Overrides(image.encoding if image.is_known_better else "", image.significant_bits)
    return EncodedFile(content, image.encoding, known)


def _mosaic(file: EncodedFile) -> str:
    """Returns the encoding of the mosaic that was compressed as a grey picture; empty where it was none."""
    before, _, target = file.format.partition("compressed")
    encoding = file.overrides.encoding or target.strip() or before.partition(";")[0].strip()
    if not encoding.startswith("bayer_") or encoding not in ENCODINGS:
        return ""
    return f"{encoding.rstrip('0123456789')}8"  # the grey picture has been scaled already


def _lost_colour(file: EncodedFile) -> tuple[ImageOddity, ...]:
    """Returns that a grey picture was made of colours, as image_transport makes one of YUV and of mosaics."""
    encoding, _, target = file.format.partition(";")
    encoding = encoding.strip()
    is_known = encoding in ENCODINGS and "compressed" in target and not file.overrides.encoding
    if not is_known or encoding.startswith(_GREY_ENCODINGS):
        return ()
    text = (
        f"the camera's images are {encoding}, and its compressed ones are grey ({file.format[:60]!r}); publish rgb8 to "
        "the compression, or subscribe to the raw images"
    )
    return (ImageOddity("colour_lost", text),)


def _lost_bits(picture: _Picture, file: EncodedFile) -> tuple[ImageOddity, ...]:
    """Returns that numbers of 16 bits were compressed to 8 by which next to nothing of the picture is left.

    Of grey ones image_transport makes a JPEG in which all above 255 are white, for OpenCV does so; of others, and
    where cv_bridge converts them, the highest 8 bits are kept, which are near 0 where a camera uses the lower ones.
    """
    encoding, _, target = file.format.partition(";")
    encoding = encoding.strip()
    if picture.numbers is not None or "compressed" not in target or not has_two_bytes(encoding):
        return ()
    brightest = int(picture.pixels.max())
    is_white = float(np.median(picture.pixels[::8, ::8])) >= _NEARLY_WHITE
    if not is_white and brightest > _MOST_OF_FEW_BITS:
        return ()
    left = "most of them are white" if is_white else f"none is above {brightest}, nearly black"
    text = (
        f"the camera's images are {encoding}, of which compressing has left 8 bits ({file.format[:60]!r}): {left}; "
        "subscribe to the raw images, or have the transport write PNG; if they are distances, which are no picture, "
        "subscribe to the colour image"
    )
    return (ImageOddity("bits_lost", text),)


def _hidden(picture: _Picture, file: EncodedFile) -> tuple[ImageOddity, ...]:
    """Returns that a grey picture looks like something of which its message, or its file, says nothing."""
    if file.overrides.encoding:
        return ()
    found = unnamed_content(
        picture.pixels[..., 0] if picture.numbers is None else picture.numbers, "the grey image file"
    )
    return tuple(one for one in found if not file.of_folder or one.kind == "distances")


def _without_effect(known: Overrides, picture: _Picture) -> Iterator[ImageOddity]:
    """Yields what is said to be known better of a picture and does not apply to it."""
    colours = "grey" if picture.is_grey else "coloured"
    if known.encoding and not known.encoding.startswith(_OF_GREY if picture.is_grey else _OF_COLOURS):
        what = "mono8 or the mosaic that it is" if picture.is_grey else "rgb8 or bgr8, the order of its colours,"
        text = (
            f"the encoding {known.encoding} is said of a {colours} image file, of which {what} can be known better; "
            "leave the parameter encoding (evaluate_bag: --encoding) empty"
        )
        yield ImageOddity("encoding_unused", text)
    bits = known.significant_bits or (bits_of(known.encoding) if picture.is_grey else 0)
    if bits and picture.numbers is None:
        yield unused_bits(bits, f"a {colours} image file")


def _bits(known: Overrides, numbers: _Pixels) -> int:
    """Returns how many of 16 bits are known to be used; encodings that say so are of pictures without colours."""
    return known.significant_bits or (bits_of(known.encoding) if numbers.ndim == 2 else 0)


def _upright(picture: _Picture) -> Decoded:
    pixels = picture.pixels
    undo = _UPRIGHT.get(picture.orientation)
    if undo is not None:
        pixels = undo(pixels)
    image = RgbImage(np.ascontiguousarray(pixels))
    seen = Seen() if picture.numbers is None else seen_in(picture.numbers, picture.bits)
    oddities = (*picture.oddities, *seen.oddities)
    return Decoded(image, Seen(oddities, seen.brightest, picture.turned or undo is not None))


def _picture(content: bytes, file: EncodedFile) -> _Picture:
    """Returns the first picture of a file; the errors are those of `decode_file_bytes`.

    Args:
        content: All bytes of the file.
        file: What else is known of it.
    """
    most_pixels = file.most_pixels
    if not content:
        raise FrameError("empty", "the image has 0 bytes; check the camera or the file")
    kind = file_format(content)
    if kind is None:
        refuse_unread(content)
        refuse_other(content)
        raise FrameError(
            "format", f"the image starts with {content[:12]!r}: no JPEG, PNG, WebP, BMP, TIFF, GIF or PPM; convert it"
        )
    if kind == "JPEG":
        return _decode_jpeg(content, most_pixels)
    try:
        check_structure(content, kind, most_pixels)
        return _decode_with_pillow(content, kind, file)
    except Image.DecompressionBombError:
        most = min(most_pixels, 2 * (Image.MAX_IMAGE_PIXELS or most_pixels))  # what Pillow's own plugins refuse
        raise FrameError("size", f"the {kind} claims a huge image; at most {most} pixels are accepted") from None
    except UnidentifiedImageError:
        raise _refusal_of_header(content, kind) from None
    except FrameError:
        raise
    except Exception as error:  # of a decoder: Pillow's plugins raise IndexError, AssertionError, SyntaxError, ...
        raise _refusal_of_damage(kind, error) from None


def _refusal_of_damage(kind: str, error: Exception) -> FrameError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return FrameError("corrupt", f"the {kind} cannot be decoded ({reason:.100}); replace it, or mend the camera's link")


def _refusal_of_header(content: bytes, kind: str) -> FrameError:
    """Returns why Pillow does not know what a file is, without the address of the object it had."""
    pixels = _pixels_of_tiff(content) if kind == "TIFF" else ""
    if pixels:
        return FrameError("depth", f"the TIFF's pixels are {pixels}, which is not read; save it with 8 or 16 bits")
    return FrameError("corrupt", f"the {kind}'s header cannot be read; replace it, or mend the camera's link")


def _pixels_of_tiff(content: bytes) -> str:
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(
            content[:16] if content[2:4] in (b"+\0", b"\0+") else content[:8]
        )
        file = io.BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        bits, formats = directory[258], directory.get(339, (1,))
    except Exception:
        return ""
    names = {1: "whole numbers", 2: "signed numbers", 3: "floating-point numbers"}
    return f"{len(bits)} {names.get(formats[0], 'numbers of an unknown kind')} of {bits[0]} bits"


def _decode_jpeg(content: bytes, most_pixels: int) -> _Picture:
    check_structure(content, "JPEG")
    try:
        pixels, is_grey, oddities = decode_jpeg(content, most_pixels)
    except ValueError as error:
        raise _refusal_of_damage("JPEG", error) from None
    if b"Exif\0\0" not in content:
        return _Picture(pixels, is_grey, oddities=oddities)
    orientation, odd = _orientation(lambda: _orientation_of_jpeg(content), "JPEG")
    return _Picture(pixels, is_grey, orientation, oddities=(*oddities, *odd))


def _orientation_of_jpeg(content: bytes) -> object:
    """Returns what the EXIF of a JPEG says, whatever else there is beside its pixels."""
    data = exif_of_jpeg(content)
    check_exif(data)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + data)
    return exif.get(0x0112, 1)


def _decode_with_pillow(content: bytes, kind: str, file: EncodedFile) -> _Picture:
    try:
        return _loaded(content, kind, file)
    except FrameError:
        raise
    except Exception as error:
        if kind != "PNG":
            raise
        return _without_trouble(content, file, error)


def _without_trouble(content: bytes, file: EncodedFile, trouble: Exception) -> _Picture:
    """Returns the picture of a PNG without what is beside its pixels: its remarks, and then its EXIF, too."""
    for dropped in (_PNG_REMARKS, _PNG_REMARKS | {_PNG_EXIF}):
        bare = _without_chunks(content, dropped)
        if bare == content:
            continue
        try:
            picture = _loaded(bare, "PNG", file)
        except FrameError:
            raise
        except Exception:  # the trouble is still there
            continue
        is_upright = _PNG_EXIF not in dropped or _PNG_EXIF not in content
        what = "a text or profile that cannot be read" if is_upright else "EXIF that cannot be read, taken for upright"
        text = f"the PNG has {what} ({one_line(trouble, 80)}); its pixels are whole"
        odd = ImageOddity("png_warning" if is_upright else "exif_warning", text, harmless=is_upright)
        return dataclasses.replace(picture, oddities=(*picture.oddities, odd))
    raise trouble


def _loaded(content: bytes, kind: str, file: EncodedFile) -> _Picture:
    if kind == "PNG":
        with opened(content, kind) as image:
            check_pixels(image.height, image.width, len(content), file.most_pixels)
            image.verify()  # the checksums, which decoding skips; the image cannot be used afterwards
    with opened(content, kind) as image:
        check_pixels(image.height, image.width, len(content), file.most_pixels)
        if kind == "TIFF":
            _refuse_preview(image)
        before, oddities = _orientation(lambda: _orientation_by_pillow(image), kind)
        image.load()  # before the orientation is used: TIFFs are turned here, and their tag dropped
        after, _ = _orientation(lambda: _orientation_by_pillow(image), kind)
        numbers = _numbers_of(image, content, kind)
        bits = 0 if numbers is None else _bits(file.overrides, numbers)
        picture = image if numbers is None else Image.fromarray(to_uint8(numbers, bits))
        is_grey = len(picture.getbands()) == 1 and picture.mode != "P"
        turned = before in _UPRIGHT or image.info.get(_TURNED_BY_HEIF, 1) in _UPRIGHT
        pixels, odd = _flatten(picture, kind, is_alpha_meant=file.of_folder)
        more = _others_in(image, kind) if file.of_folder else ()
        return _Picture(pixels, is_grey, after, turned, numbers, bits, (*oddities, *odd, *more))


def _others_in(image: Image.Image, kind: str) -> tuple[ImageOddity, ...]:
    """Returns that a file is an animation of which one picture is taken; its picture is gone afterwards."""
    try:
        is_animated = kind in _ANIMATED and getattr(image, "is_animated", False)
    except Exception:  # of damage in the pictures after the first, which nobody needs
        is_animated = False
    text = f"the {kind} is an animation, of which the first picture is taken; save its pictures as files, or as a video"
    return (ImageOddity("animation", text),) if is_animated else ()


def _refuse_preview(image: Image.Image) -> None:
    """Raises FrameError if the first picture of a TIFF is a preview, as in most cameras' raw files."""
    said = getattr(image, "tag_v2", {}).get(_PREVIEW, 0)
    if isinstance(said, int) and said & 1:
        raise FrameError(
            "format",
            f"the first picture of the TIFF is a preview ({image.width}x{image.height}), as in the raw file of a "
            "camera, which is not read; develop it to JPEG or PNG",
        )


def _without_chunks(content: bytes, dropped: frozenset[bytes]) -> bytes:
    """Returns a PNG without some kinds of chunks; as it is, where its chunks do not fit."""
    kept = [content[:8]]
    place = 8
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if end > len(content):
            return content
        if content[place + 4 : place + 8] not in dropped:
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _orientation(read: Callable[[], object], kind: str) -> tuple[int, tuple[ImageOddity, ...]]:
    """Returns what EXIF says, 1 where it cannot be read, and that this is so."""
    try:
        found = read()
        if isinstance(found, int) and found in (0, 1, *_UPRIGHT):  # 0 is how some say that they do not know
            return found, ()
        problem = f"an orientation of {found!r:.40}"
    except Exception as error:  # of Pillow's parsers, or the limit of what EXIF may claim
        problem = one_line(error, 80)
    text = f"the {kind}'s EXIF cannot be read ({problem}); the picture is taken for upright"
    return 1, (ImageOddity("exif_warning", text),)


def _orientation_by_pillow(image: Image.Image) -> object:
    check_exif(image.info.get("exif") or b"")
    return image.getexif().get(0x0112, 1)


def _numbers_of(image: Image.Image, content: bytes, kind: str) -> npt.NDArray[np.uint16] | None:
    """Returns the numbers of 16 bits of a picture, in RGB or RGBA; None where it has others.

    PNGs are decoded by OpenCV: Pillow cuts 16-bit colours to their high byte and saturates 16-bit greys.
    """
    if kind == "TIFF" and image.mode in ("RGB", "RGBA"):
        return _numbers_of_colours(image, content)
    if kind != "PNG" or content[24] != 16:
        has_numbers = image.mode.startswith("I;16") or (kind == "PPM" and image.mode == "I")
        numbers = np.asarray(image).astype(np.uint16) if has_numbers else None
        return numbers if numbers is None or kind != "TIFF" else _as_tiff_says(numbers, image)
    found = _numbers_by_opencv(content)
    if found is None:
        raise ValueError("undecodable 16-bit PNG")
    return np.asarray(found, np.uint16)


def _numbers_by_opencv(content: bytes) -> _Pixels | None:
    """Returns the numbers of a grey or coloured picture, in RGB or RGBA; None where OpenCV reads none."""
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.ndim == 2:
        return found
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB))


def _numbers_of_colours(image: Image.Image, content: bytes) -> npt.NDArray[np.uint16] | None:
    """Returns the numbers of 16 bits of a coloured TIFF, of which Pillow keeps the high bytes.

    None where there are none, or where OpenCV sees another picture than Pillow, as of one that is turned.
    """
    if set(getattr(image, "tag_v2", {}).get(_BITS, ())) != {16}:
        return None
    numbers = _numbers_by_opencv(content)
    is_same = numbers is not None and numbers.dtype == np.uint16 and np.array_equal(numbers >> 8, np.asarray(image))
    return np.asarray(numbers, np.uint16) if is_same else None


def _as_tiff_says(numbers: npt.NDArray[np.uint16], image: Image.Image) -> npt.NDArray[np.uint16]:
    """Returns the numbers of a grey TIFF with 0 as black and 65535 as white, which Pillow leaves as they are stored."""
    tags = getattr(image, "tag_v2", {})
    (bits,) = tags.get(_BITS, (16,))[:1]
    scaled = numbers << (16 - bits) if 8 < bits < 16 else numbers
    return ~scaled if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else scaled


def _flatten(image: Image.Image, kind: str, *, is_alpha_meant: bool) -> tuple[_Pixels, tuple[ImageOddity, ...]]:
    """Returns (H, W, 3) uint8 RGB, and that alpha was dropped which hides something.

    Args:
        image: The picture.
        kind: Of its file.
        is_alpha_meant: Whether it is composited over white, and not dropped; that of a picture all of which would be
            white is never meant: programs leave it 0.
    """
    if image.mode in ("I", "F"):
        raise FrameError(
            "depth",
            f"the image has 32-bit pixels (mode {image.mode}), whose white is undefined; save it with 8 or 16 bits",
        )
    oddities: tuple[ImageOddity, ...] = ()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        least, most = image.getchannel("A").getextrema()
        if is_alpha_meant and most:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        elif least != 255:
            oddities = (_dropped_alpha(kind, of_camera=not is_alpha_meant),)
    return np.asarray(image.convert("RGB")), oddities


def _dropped_alpha(kind: str, *, of_camera: bool) -> ImageOddity:
    """Returns that pixels are transparent, all of them in a file, which is passed over."""
    is_whole = kind in _WHOLE_UNDER_ALPHA
    blanked = "" if is_whole else f", but encoders of {kind} may have blanked what is transparent"
    text = (
        f"pixels of the {kind} are transparent; alpha of a camera is dropped, as that of rgba8 is, and not composited "
        f"over white as in files of folders{blanked}; have the driver send none"
        if of_camera
        else f"every pixel of the {kind} is transparent, so alpha is dropped: over white nothing of it would be "
        f"left{blanked}; save it without alpha"
    )
    return ImageOddity("alpha_dropped", text, harmless=is_whole)
