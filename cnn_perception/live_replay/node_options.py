"""How the node of a replay is started: its parameters, its name, its image topic; and what it says of them itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.bag.message_types import COMPRESSED_IMAGE_TYPE
from cnn_perception.bag.reader import Topic
from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import AS_SENT, Overrides
from cnn_perception.mistaken_files import what_is_at
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS
from cnn_perception.ros import given_parameters

_ROBOT = "/perception_node"
_COMPRESSED = "/compressed"
_NAME = re.compile("(/[A-Za-z_][A-Za-z0-9_]*)+")
_ANY_NAME = "/camera/image_raw"
"""For images whose topic has a name that ROS 2 does not take, such as those of other systems."""
_OF_CAMERA = ("encoding", "significant_bits", "max_rate_hz", "max_age_s")
"""Parameters that each camera has for itself."""


@dataclass(frozen=True)
class NodeOptions:
    """How the node is started.

    Attributes:
        model: Its model file.
        params: A parameter file; None for none.
        start_limit_s: Seconds after which it has failed if it is not active.
        overrides: What is known better of the images than they say themselves; as they are, the node decides.
        providers: ONNX Runtime execution providers; the default leaves them to the node.

    Raises:
        ConfigError: If there is no such parameter file, or the limit is none.
    """

    model: Path
    params: Path | None = None
    start_limit_s: float = 120.0
    overrides: Overrides = AS_SENT
    providers: Sequence[str] = DEFAULT_PROVIDERS

    def __post_init__(self) -> None:
        if self.params is not None and not self.params.is_file():
            raise ConfigError(f"--params {self.params}: there is no such file; name a parameter file of the node")
        if self.params is not None and (what := what_is_at(self.params, "parameter file")):
            raise ConfigError(f"--params {self.params}: {what}")
        if not 0.0 < self.start_limit_s < float("inf"):
            raise ConfigError(f"--start-limit is {self.start_limit_s}; choose seconds above 0")

    @property
    def robot(self) -> str:
        """Fully qualified name of the node: that of which the file has parameters, else `/perception_node`."""
        names = given_parameters.nodes_of_file(self.params) if self.params else []
        if not names or any(given_parameters.matches(name, _ROBOT) for name in names):
            return _ROBOT
        named = [name for name in names if "*" not in name]
        own = [name for name in named if name.endswith(_ROBOT)] or (named if len(named) == 1 else [])
        return own[0] if own else _ROBOT


@dataclass(frozen=True)
class ImageRoute:
    """Where the images of a bag are published, and what the node is told of it.

    Attributes:
        topic: Where they are published.
        base: The node's `image_topic`.
        recorded: The same in the bag, which may be a name that ROS 2 does not take.
        is_compressed: Whether they are sensor_msgs/CompressedImage.
    """

    topic: str
    base: str
    recorded: str
    is_compressed: bool

    @classmethod
    def of(cls, images: Topic) -> ImageRoute:
        """Returns the route of a bag's topic: a name that ROS 2 takes and that ends as image_transport wants it."""
        is_compressed = images.type == COMPRESSED_IMAGE_TYPE
        name = "/" + images.name.strip("/")
        recorded = (name.removesuffix(_COMPRESSED) if is_compressed else name) or name
        base = recorded if _NAME.fullmatch(recorded) else _ANY_NAME
        return cls(f"{base}{_COMPRESSED}" if is_compressed else base, base, recorded, is_compressed)

    @property
    def camera_info(self) -> str:
        """Topic on which the calibration is published, beside the images."""
        return _beside(self.base)

    @property
    def recorded_info(self) -> str:
        """Topic of the calibration in the bag."""
        return _beside(self.recorded)


def _beside(topic: str) -> str:
    return f"{topic.rpartition('/')[0]}/camera_info"


@dataclass(frozen=True)
class NodeSettings:
    """What the node's parameters say of its answers; see `perception_node.settings`."""

    smoothing_s: float
    hysteresis: float
    hold_s: float
    top_k: int
    threshold: float
    providers: Sequence[str]
    diagnostics_period_s: float
    encoding: str
    significant_bits: int
    max_rate_hz: float
    max_age_s: float


def settings_names(camera: str) -> dict[str, str]:
    """Returns the names of the parameters that `NodeSettings` holds, by its fields.

    Args:
        camera: Name of the camera; empty for the only one.
    """
    prefix = f"{camera}." if camera else ""
    return {name: (prefix if name in _OF_CAMERA else "") + name for name in NodeSettings.__dataclass_fields__}


def node_arguments(options: NodeOptions, route: ImageRoute, file: Path) -> list[str]:
    """Returns the node's ROS arguments: what a replay needs is in a file of its own, which wins over the user's."""
    namespace, _, name = options.robot.rpartition("/")
    parameters: dict[str, object] = {
        "model": str(options.model.resolve()),
        "autostart": True,
        "use_sim_time": True,
        "image_topic": route.base,
        "image_transport": "compressed" if route.is_compressed else "raw",
        "record_folder": "",
    }
    if options.overrides.encoding:
        parameters["encoding"] = options.overrides.encoding
    if options.overrides.significant_bits:
        parameters["significant_bits"] = options.overrides.significant_bits
    if tuple(options.providers) != tuple(DEFAULT_PROVIDERS):
        parameters["providers"] = list(options.providers)
    arguments = ["-r", f"__node:={name}", "-r", f"__ns:={namespace or '/'}"]
    arguments += ["--params-file", str(options.params)] if options.params else []
    file.write_text(json.dumps({options.robot: {"ros__parameters": parameters}}))  # which is YAML, too
    return [*arguments, "--params-file", str(file)]
