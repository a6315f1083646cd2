"""Fuzzes the decoders: raw pixels in every encoding, and the files of every format."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from random import Random

import frames
import numpy as np
from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import EncodedFile, EncodedImage, RgbImage, decode
from cnn_perception.image.raw import MAX_PIXELS
from fuzz.mutation import edge, mutate_content, mutated, put_edge, rounds
from fuzz.target import Files, Sample, Target, ViolationError, content_of

_ENCODINGS = sorted({image.fields["encoding"] for image in (*frames.GOOD_IMAGES, *frames.BAD_IMAGES)})
_PNG_MAGIC_BYTES = 8


def raw_target() -> Target:
    """Returns the decoder of uncompressed pixels; an input is a line of JSON, and the pixels."""
    return Target("raw", _raw_samples, _mutate_raw, _check_raw, batch=2000, share=2)


def file_target() -> Target:
    """Returns the decoder of image files; an input is a CompressedImage's `format` in a line, and the file."""
    return Target("compressed", _file_samples, _mutate_file, _check_file, batch=500, share=4)


def _raw_samples() -> list[Sample]:
    return [Sample(image.name[:40], {"image": _joined(image.fields)}) for image in frames.GOOD_IMAGES]


def _joined(fields: dict[str, object]) -> bytes:
    data = fields["data"]
    header = {name: value for name, value in fields.items() if name != "data"}
    assert isinstance(data, bytes)
    return json.dumps(header, ensure_ascii=False).encode(errors="surrogatepass") + b"\n" + data


def _mutate_raw(random: Random, sample: Sample, pool: Sequence[Sample]) -> Files:
    header, _, data = content_of(sample).partition(b"\n")
    fields = json.loads(header)
    for _ in range(rounds(random)):
        name = random.choice(("encoding", "height", "width", "step", "is_bigendian", "data"))
        if name == "encoding":
            fields[name] = random.choice(_ENCODINGS)
        elif name == "data":
            data = mutated(random, data, content_of(random.choice(pool)).partition(b"\n")[2])
        elif random.random() < 0.6:
            fields[name] = max(0, min(2**32 - 1, int(fields[name]) + random.randint(-3, 3)))
        else:
            fields[name] = edge(random, 8 if name == "is_bigendian" else 32)
    return {"image": _joined(fields | {"data": data})}


def _check_raw(sample: Sample) -> str:
    header, _, data = content_of(sample).partition(b"\n")
    fields = json.loads(header)
    return _check(EncodedImage(data=data, **fields), fields["encoding"][:12])


def _file_samples() -> list[Sample]:
    files = {f"{index}_{file.name}": (file.format, file.data) for index, file in enumerate(frames.GOOD_COMPRESSED)}
    picture = Image.fromarray(frames.PICTURE)
    alpha = picture.copy()
    alpha.putalpha(100)
    more: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png_alpha": (alpha, "PNG", {}),
        "png_transparent": (picture.quantize(8), "PNG", {"transparency": 1}),
        "webp_lossy": (alpha, "WEBP", {}),
        "webp_animated": (picture, "WEBP", {"save_all": True, "append_images": [picture.rotate(90)]}),
        "gif_animated": (picture, "GIF", {"save_all": True, "append_images": [picture.rotate(90)]}),
        "bmp_palette": (picture.quantize(8), "BMP", {}),
        "bmp_grey": (picture.convert("L"), "BMP", {}),
        "tiff_lzw": (picture, "TIFF", {"compression": "tiff_lzw"}),
        "tiff_deflate": (picture, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff_packbits": (picture, "TIFF", {"compression": "packbits"}),
        "tiff_jpeg": (picture, "TIFF", {"compression": "jpeg"}),
        "tiff_group4": (picture.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff_two_pages": (picture, "TIFF", {"save_all": True, "append_images": [picture]}),
        "tiff_16": (Image.fromarray(frames.LUMA.astype(np.uint16)), "TIFF", {}),
        "tiff_cmyk": (picture.convert("CMYK"), "TIFF", {}),
    }
    files |= {name: ("", frames.saved(image, kind, **options)) for name, (image, kind, options) in more.items()}
    return [
        Sample(name.replace(" ", "_"), {"file": message_format.encode() + b"\n" + data})
        for name, (message_format, data) in files.items()
    ]


def _mutate_file(random: Random, sample: Sample, pool: Sequence[Sample]) -> Files:
    message_format, _, data = content_of(sample).partition(b"\n")
    if data[1:4] == b"PNG" and random.random() < 0.7:
        return {"file": message_format + b"\n" + _mutated_png(random, data)}
    if random.random() < 0.05:
        return mutate_content(random, sample, pool)
    if random.random() < 0.3:
        head = bytearray(data)  # where sizes, tables and tags are
        put_edge(random, head, random.randrange(min(len(head), 256) + 1), random.choice(("<H", ">H", "<I", ">I", "<B")))
        return {"file": message_format + b"\n" + bytes(head)}
    other = content_of(random.choice(pool)).partition(b"\n")[2]
    return {"file": message_format + b"\n" + mutated(random, data, other)}


def _mutated_png(random: Random, data: bytes) -> bytes:
    """Returns a PNG with damaged chunks whose checksums are right, so that the damage is met behind them."""
    chunks = []
    position = _PNG_MAGIC_BYTES
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    if not chunks:
        return mutated(random, data)
    at = random.randrange(len(chunks))
    name, content = chunks[at]
    kind = random.randrange(5)
    if kind == 0:
        del chunks[at]
    elif kind == 1:
        chunks.insert(random.randrange(len(chunks) + 1), chunks[at])
    elif kind == 2:
        names = (b"IDAT", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fdAT", b"pHYs", b"iTXt")
        chunks[at] = (random.choice(names), content)
    elif kind == 3 and name == b"IDAT":
        chunks[at] = (name, zlib.compress(mutated(random, _inflated(content))))
    else:
        chunks[at] = (name, mutated(random, content))
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    ]
    return data[:_PNG_MAGIC_BYTES] + b"".join(parts)


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, 2**16)
    except zlib.error:
        return content


def _check_file(sample: Sample) -> str:
    message_format, _, data = content_of(sample).partition(b"\n")
    return _check(EncodedFile(data, message_format.decode(errors="replace")), data[1:4].hex())


def _check(image: EncodedImage | EncodedFile, kind: str) -> str:
    try:
        rgb = decode(image)
    except FrameError as error:
        if not error.reason.replace("_", "").isalpha() or not error.reason.islower():
            raise ViolationError(f"a reason that is no key: {error.reason!r}") from None
        raise
    _check_picture(rgb)
    return f"{kind} picture"


def _check_picture(rgb: RgbImage) -> None:
    is_picture = rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    if not is_picture or not 0 < rgb.shape[0] * rgb.shape[1] <= MAX_PIXELS:
        raise ViolationError(f"no RGB picture: {rgb.shape} {rgb.dtype}")


def jpeg(seed: int) -> bytes:
    """Returns a small JPEG that no other number gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()
