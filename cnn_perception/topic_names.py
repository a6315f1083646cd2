"""Names of topics that several programs and the shipped layouts must agree on, written here alone; what is a name.

What is about the frames of one camera lies below a base: a node's own name (and the camera's, if it has one), or
`RESULTS` in the bag of an evaluation, so that such a bag which is played never speaks for a node.
"""

from __future__ import annotations

import re

NODE = "/perception_node"
"""Base of a node that was not renamed and has one camera."""
IMAGE = "/image_raw"
"""Images that such a node answers."""
RESULTS = "/perception"
"""Base of what an evaluation says of a recording."""

COMPRESSED = "compressed"
"""Below the topic of raw images, where image_transport publishes them as sensor_msgs/CompressedImage."""
CAMERA_INFO = "camera_info"
"""Beside the images."""

LABEL_INFO = "label_info"
"""The names of a model's classes, for all cameras of a node."""

OVERLAY = "activation/overlay"
OVERLAY_JPEG = f"{OVERLAY}/{COMPRESSED}"
ANNOTATIONS = "annotations"
"""Answer and truth as shapes and texts, for viewers that draw them on the image themselves."""
IMAGE_REFERENCE = "image_reference"
"""Where the image of a frame is, in a bag of results that does not have it."""

DETECTIONS = "detections"
"""The boxes of another detector, answered."""
DETECTION_RAYS = f"{DETECTIONS}/rays"

DIAGNOSTICS = "/diagnostics"
IMAGES_KEY, CAMERA_INFO_KEY = "topic", "camera_info"
"""In the diagnostic status of a perception node's camera: the topics that it listens to, remapping applied."""
ANSWERS_KEY, OVERLAY_KEY = "answers", "overlay"
"""There, too: where its answers and its compressed overlay are published; empty without a model."""
TRUTH = "/truth"

_PART = r"(?!\d)(?!\w*__)\w+"
_NAMES = {
    "topic": re.compile(rf"(~?/)?{_PART}(/{_PART})*", re.ASCII),
    "namespace": re.compile(rf"/|(/{_PART})+", re.ASCII),
    "node": re.compile(_PART, re.ASCII),
}
"""What a remapping can make of a name. Source: rcl, lexer.c and arguments.c, which take no wildcards in these."""
_RULES = {
    "topic": "it has letters, digits and _, and one / between two parts, of which none begins with a digit or has __",
    "namespace": "it begins with /, and has letters, digits and _, and one / between two parts, of which none begins "
    "with a digit or has __",
    "node": "it has letters, digits and _, does not begin with a digit, and has no __ and no /",
}


def below(base: str, name: str) -> str:
    """Returns the name of a topic below a base."""
    return f"{base}/{name}"


def without_transport(images: str) -> str:
    """Returns the topic of raw images whose compressed ones may have been named."""
    return images.removesuffix(f"/{COMPRESSED}")


def camera_info_beside(images: str) -> str:
    """Returns the topic of the calibration that lies beside images, raw or compressed, where no remapping moves it."""
    folder, slash, _ = without_transport(images).rpartition("/")
    return f"{folder}{slash}{CAMERA_INFO}"


def why_no_name(name: str, kind: str) -> str:
    """Says that a text is no name to which a topic, a namespace or a node can be remapped, and what to write instead.

    Args:
        name: As the user gave it.
        kind: `topic`, `namespace` or `node`.

    Returns:
        `no name of a topic: write ...`; empty where it is one.
    """
    if _NAMES[kind].fullmatch(name):
        return ""
    return f"no name of a {kind}: {name_to_write(name, kind)}"


def name_to_write(name: str, kind: str) -> str:
    """Returns what to write in place of what is no name: it without superfluous slashes and blanks, if that is enough.

    Args:
        name: As the user gave it.
        kind: Of `why_no_name`.
    """
    text = re.sub("/+", "/", name.strip()).removesuffix("/")
    text = f"/{text.removeprefix('/')}" if kind == "namespace" else text
    return f"write {text}" if _NAMES[kind].fullmatch(text) else _RULES[kind]
