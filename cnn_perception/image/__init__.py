"""Decodes the bytes of any camera message or image file to (H, W, 3) uint8 RGB, or refuses them with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.image.compressed import EncodedFile as EncodedFile
    from cnn_perception.image.decoded import RgbImage as RgbImage
    from cnn_perception.image.messages import decode as decode
    from cnn_perception.image.messages import decode_file_bytes as decode_file_bytes
    from cnn_perception.image.messages import encoded_from_message as encoded_from_message
    from cnn_perception.image.messages import read_image as read_image
    from cnn_perception.image.raw import EncodedImage as EncodedImage

__getattr__, __dir__ = lazy(
    __name__,
    {
        "EncodedFile": "compressed",
        "EncodedImage": "raw",
        "RgbImage": "decoded",
        "decode": "messages",
        "decode_file_bytes": "messages",
        "encoded_from_message": "messages",
        "read_image": "messages",
    },
)
