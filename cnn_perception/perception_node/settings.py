"""The parameters of `perception_node`. What a model is (size, mean, labels, ...) is none: it is in the model file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from cnn_perception.background.selection import RecorderSettings, RecordFormat
from cnn_perception.black_box.settings import CAUSES, BlackBoxSettings
from cnn_perception.errors import ConfigError
from cnn_perception.files import expanded
from cnn_perception.image.messages import Overrides
from cnn_perception.lifecycle.bond import HEARTBEAT_PERIOD_S
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS, SessionOptions
from cnn_perception.perception_node.active_model import ModelOptions
from cnn_perception.pipeline.overlay import DEFAULT_ALPHA
from cnn_perception.pipeline.score_map import LARGEST_SIDE, MOST_PIXELS
from cnn_perception.regions.answering import MOST_BOXES
from cnn_perception.regions.cropping import MOST_PADDING, CropSettings
from cnn_perception.ros.image_messages import IMAGE_TRANSPORTS
from cnn_perception.ros.parameter_types import shown
from cnn_perception.ros.parameters import parameter, validate
from cnn_perception.stream.smoothing import SmoothingSettings
from cnn_perception.stream.stamps import StampPolicy
from cnn_perception.tasks.registry import TASKS

STAMP_POLICIES = get_args(StampPolicy)
RECORD_FORMATS = get_args(RecordFormat)
MODELS = ("model", "shadow_model")
"""Parameters that name model files."""
RESERVED_NAMES = {
    "activation", "detections", "embedding", "label_map", "neighbours", "score_map", "unit_activation",
    *(task.topic for task in TASKS.values()),
}  # fmt: skip
"""What a camera cannot be called, because the topics of a single camera are."""


@dataclass(frozen=True)
class CameraSettings:
    """How one camera is listened to: `NAME.image_topic` and so on, or without a prefix for the only camera.

    Raises:
        ConfigError: If a value is out of range.
    """

    image_topic: str = parameter(
        "image_raw", "Topic of its images, sensor_msgs/Image; also where they come compressed.", read_only=True
    )
    image_transport: str = parameter(
        "raw",
        "Subscribe to raw images, or to sensor_msgs/CompressedImage on image_topic/compressed.",
        choices=IMAGE_TRANSPORTS,
    )
    max_rate_hz: float = parameter(
        0.0, "Most frames of this camera that are answered in a second; 0 for all.", between=(0.0, 1000.0), live=True
    )
    encoding: str = parameter(
        "",
        "What the pixels of its images are, where the driver's messages say it wrong; '' for what they say. Of "
        "coloured compressed images, bgr8 exchanges red and blue.",
        live=True,
    )
    significant_bits: int = parameter(
        0,
        "How many of the bits of 16-bit images its camera uses, such as 12; 0 for what the encoding says.",
        between=(0, 16),
        live=True,
    )
    rectified: bool = parameter(
        False,
        "Its images are rectified ones: rays follow from P of camera_info, not K and D. To be given, true or false, "
        "where their topic is named so.",
    )
    max_age_s: float = parameter(
        0.0,
        "Frames older than this are dropped, never answered late; 0 for no limit.",
        between=(0.0, 3600.0),
        live=True,
    )
    rois_topic: str = parameter(
        "",
        "Topic of another detector's boxes in its images, vision_msgs/Detection2DArray with their stamps; each box is "
        "then answered on ~/detections. '' for none.",
        read_only=True,
    )
    rois_padding: float = parameter(
        0.0,
        "What is shown of the image on each side of a box, as a share of the box's width and height.",
        between=(0.0, MOST_PADDING),
        live=True,
    )
    rois_square: bool = parameter(False, "Boxes are made square, as wide and high as their longer side.", live=True)
    rois_max: int = parameter(
        MOST_BOXES,
        "Most boxes of one image that are answered: those the detector is surest of, of equal ones the first.",
        between=(1, 10_000),
        live=True,
    )
    rois_wait_s: float = parameter(
        0.5,
        "Seconds that an image waits for its boxes, and boxes for their image.",
        between=(0.01, 10.0),
        live=True,
    )

    def __post_init__(self) -> None:
        validate(self)
        if not self.image_topic:
            raise ConfigError("parameter image_topic is empty; name the camera's topic")
        try:
            self.overrides  # noqa: B018 - made to be checked
        except ConfigError as error:
            raise ConfigError(f"parameter {error}") from None

    @property
    def overrides(self) -> Overrides:
        """What is known better of its images than their messages say."""
        return Overrides(self.encoding, self.significant_bits)

    @property
    def rois_crop(self) -> CropSettings:
        """How much around a box is shown to the network."""
        return CropSettings(self.rois_padding, self.rois_square)

    def of_camera(self, name: str) -> CameraSettings:
        """Returns the defaults of a camera with a name: these, and topics in its own namespace."""
        rois = self.rois_topic
        own = f"{name}/{rois}" if rois and not rois.startswith(("/", "~")) else rois
        return dataclasses.replace(self, image_topic=f"{name}/image_raw", rois_topic=own)


@dataclass(frozen=True)
class Settings:
    """One valid set of parameters.

    Raises:
        ConfigError: If a value is out of range.
    """

    model: str = parameter(
        "",
        "Path of the ONNX model file made by training.export; set to another file below model_root, or again once its "
        "file was replaced, it swaps the model.",
        is_path=True,
    )
    model_root: str = parameter(
        "",
        "Folder below which model and shadow_model may be changed to other files; '' for that of the first model.",
        is_path=True,
        read_only=True,
    )
    providers: Sequence[str] = parameter(
        DEFAULT_PROVIDERS,
        "ONNX Runtime execution providers, the preferred first; the CPU is always the last resort. ['fastest'] tries "
        "all but TensorRT, and NAME_int8.onnx and NAME_fp16.onnx beside NAME.onnx, for some seconds, and takes one.",
    )
    require_gpu: bool = parameter(False, "Fail to configure rather than fall back to the CPU.")
    device_id: int = parameter(0, "Which GPU, as CUDA counts them.", between=(0, 255))
    cache_dir: str = parameter(
        "",
        "Folder for TensorRT's engines and for what was found to be the fastest; '' for the user's cache folder.",
        is_path=True,
        read_only=True,
    )
    intra_op_threads: int = parameter(
        0, "CPU threads of one inference; 0 is one a physical core.", between=(0, 1024), read_only=True
    )
    cameras: Sequence[str] = parameter(
        ("",), "Names of the cameras, each with its own NAME.image_topic; [''] for a single one.", read_only=True
    )
    max_batch_size: int = parameter(
        4, "Most frames of different cameras in one run of the model.", between=(1, 256), read_only=True
    )
    rois_batch_size: int = parameter(
        4, "Most boxes of another detector in one run of the model.", between=(1, 256), read_only=True
    )
    autostart: bool = parameter(
        True,
        "Configure and activate at start; false where a lifecycle manager, such as Nav2's, does it.",
        read_only=True,
    )
    bond_heartbeat_period: float = parameter(
        HEARTBEAT_PERIOD_S,
        "Seconds between two signs of life to the lifecycle manager, on the topic bond while the node is active; 0 for "
        "none; of no effect with autostart.",
        between=(0.0, 60.0),
        read_only=True,
    )
    top_k: int = parameter(5, "Most classes that a classification lists.", between=(1, 1000), live=True)
    threshold: float = parameter(
        0.0,
        "Classes with a lower score are left out; a multilabel model's own thresholds apply too.",
        between=(0.0, 1.0),
        live=True,
    )
    smoothing_s: float = parameter(
        0.0, "Time constant of the moving average of the scores; 0 for none.", between=(0.0, 3600.0), live=True
    )
    hysteresis: float = parameter(
        0.0, "By how much another answer must be better than the one held.", between=(0.0, 0.99), live=True
    )
    hold_s: float = parameter(0.0, "Least time between two changes of the answer.", between=(0.0, 3600.0), live=True)
    stamps: str = parameter(
        "accept",
        "What becomes of frames whose stamp is zero, of another clock, in the future, repeated or going back: accept "
        "or reject; either way they are counted.",
        choices=STAMP_POLICIES,
        live=True,
    )
    views_max_rate_hz: float = parameter(
        15.0,
        "Most frames of a camera in a second of which overlays, score and label maps and unit activations are made, "
        "which costs the cores that answers need; 0 for all.",
        between=(0.0, 1000.0),
        live=True,
    )
    views_max_share: float = parameter(
        0.15,
        "Most of the time in which a network runs for score maps, and for unit activations, and in which overlays and "
        "label maps wait for a core: they slow the answers that share their cores; 1 for all of it.",
        between=(0.01, 1.0),
        live=True,
    )
    overlay_alpha: float = parameter(
        DEFAULT_ALPHA, "Opacity of the overlay where the activation map is strongest.", between=(0.0, 1.0), live=True
    )
    overlay_classes: int = parameter(3, "Most classes that the overlay lists.", between=(1, 20), live=True)
    score_map_class: str = parameter(
        "", "Class that the score map shows; '' for the one with the highest cell.", live=True
    )
    score_map_scale: float = parameter(
        1.0,
        "How much larger than its own pixels the network sees the image for the score map.",
        between=(0.05, 20.0),
        live=True,
    )
    score_map_max_pixels: int = parameter(
        MOST_PIXELS,
        "Most pixels that the network is run on for a score map; a larger one is refused.",
        between=(1, LARGEST_SIDE**2),
        read_only=True,
    )
    label_map_threshold: float = parameter(
        0.5, "Least score that gives a pixel of the label map a class; others are 0.", between=(0.0, 1.0), live=True
    )
    unit_layer: str = parameter(
        "",
        "Layer that ~/unit_activation shows a unit of, a tensor of the model file; '' for the last with a grid of "
        "cells. A wrong name is answered with those to choose from.",
        live=True,
    )
    unit: int = parameter(0, "Which unit of that layer, counted from 0.", between=(0, 65535), live=True)
    neighbours: int = parameter(
        5,
        "Most reference images that are named for a frame; their score is the cosine similarity, no probability.",
        between=(1, 1000),
        live=True,
    )
    shadow_model: str = parameter(
        "", "A second model file, run unpublished and compared with; '' for none; below model_root.", is_path=True
    )
    model_timeout_s: float = parameter(
        600.0,
        "Seconds that loading a model may take, and trying it in a process of its own first, where TensorRT builds its "
        "engine.",
        between=(1.0, 86400.0),
        live=True,
    )
    record_folder: str = parameter(
        "", "Where frames go that the model was unsure of; '' for nowhere.", is_path=True, read_only=True
    )
    record_format: str = parameter(
        "folder", "Image files with a table to label, or a bag.", choices=RECORD_FORMATS, read_only=True
    )
    record_margin: float = parameter(
        0.2, "Frames are kept whose best score exceeds the second by less.", between=(0.0, 1.0), read_only=True
    )
    record_unknown: bool = parameter(True, "Frames are kept that were answered unknown.", read_only=True)
    record_max_mb: float = parameter(
        1000.0, "Largest size of that folder, megabytes; nothing is ever deleted.", between=(1.0, 1e9), read_only=True
    )
    record_max_rate_hz: float = parameter(
        1.0, "Most frames of a camera that are kept a second.", between=(0.001, 1000.0), read_only=True
    )
    black_box_dir: str = parameter(
        "",
        "Where the seconds before and after something that should be looked at go, as bags; '' for nowhere. Frames are "
        "then answered even where nobody subscribes.",
        is_path=True,
        read_only=True,
    )
    black_box_before_s: float = parameter(
        10.0, "Seconds before it that are saved, as far as memory has room.", between=(0.1, 3600.0), read_only=True
    )
    black_box_after_s: float = parameter(5.0, "Seconds after it that are saved.", between=(0.1, 3600.0), read_only=True)
    black_box_on: Sequence[str] = parameter(
        CAUSES,
        "What has them saved: drift, an unknown_streak, a shadow_dispute, a call of the service ~/save_black_box, a "
        "message on the topic ~/black_box_trigger.",
        read_only=True,
    )
    black_box_unknown_streak: int = parameter(
        10, "So many answers unknown in a row are an unknown_streak.", between=(1, 1_000_000), read_only=True
    )
    black_box_max_mb: float = parameter(
        1000.0, "Largest size of that folder, megabytes; nothing is ever deleted.", between=(1.0, 1e9), read_only=True
    )
    black_box_memory_mb: float = parameter(
        300.0,
        "Memory for the seconds before, megabytes; with what waits for a slow disk it may be three times that.",
        between=(1.0, 1e6),
        read_only=True,
    )
    image_timeout_s: float = parameter(
        3.0, "Seconds without an image after which the camera is reported as silent.", between=(0.1, 3600.0), live=True
    )
    diagnostics_period_s: float = parameter(
        1.0, "Seconds between two messages on /diagnostics.", between=(0.05, 60.0), read_only=True
    )

    def __post_init__(self) -> None:
        validate(self)
        _check_names(self.cameras)
        self.model_options()
        self.black_box()

    @property
    def stamp_policy(self) -> StampPolicy:
        """What becomes of frames with a strange stamp."""
        return "reject" if self.stamps == "reject" else "accept"

    @property
    def smoothing(self) -> SmoothingSettings:
        """How answers are smoothed over time."""
        return SmoothingSettings(self.smoothing_s, self.hysteresis, self.hold_s)

    def model_options(self, has_rois: bool = False) -> ModelOptions:
        """Returns which model is to be used, and how; ~ is expanded in the paths.

        Args:
            has_rois: Whether boxes of another detector are answered, in batches of their own.
        """
        return ModelOptions(
            path=expanded(self.model),
            session=self._session_options(has_rois),
            shadow_path=expanded(self.shadow_model) if self.shadow_model else None,
            recorder=self._recorder_settings(),
            score_map_class=self.score_map_class,
            unit_layer=self.unit_layer,
            unit=self.unit,
            timeout_s=self.model_timeout_s,
        )

    def black_box(self) -> BlackBoxSettings | None:
        """Returns what the black box saves, when and where; None where there is none."""
        if not self.black_box_dir:
            return None
        try:
            return BlackBoxSettings(
                folder=expanded(self.black_box_dir),
                before_s=self.black_box_before_s,
                after_s=self.black_box_after_s,
                causes=frozenset(self.black_box_on),
                unknown_streak=self.black_box_unknown_streak,
                max_mb=self.black_box_max_mb,
                memory_mb=self.black_box_memory_mb,
            )
        except ConfigError as error:
            raise ConfigError(f"parameter black_box_on: {error}") from None

    def _session_options(self, has_rois: bool) -> SessionOptions:
        """Every batch that can occur is warmed up."""
        of_frames = min(self.max_batch_size, len(self.cameras))
        batches = range(1, max(of_frames, self.rois_batch_size if has_rois else 1) + 1)
        return SessionOptions(
            providers=tuple(self.providers),
            intra_op_threads=self.intra_op_threads,
            warm_up_batches=tuple(batches),
            require_gpu=self.require_gpu,
            device_id=self.device_id,
            score_map_threads=1,  # it runs in a thread of low priority, which the answers do not notice
            cache_dir=self.cache_dir,
        )

    def _recorder_settings(self) -> RecorderSettings | None:
        if not self.record_folder:
            return None
        return RecorderSettings(
            folder=expanded(self.record_folder),
            format="bag" if self.record_format == "bag" else "folder",
            margin=self.record_margin,
            unknown=self.record_unknown,
            max_mb=self.record_max_mb,
            max_rate_hz=self.record_max_rate_hz,
        )


@dataclass(frozen=True)
class AllowedModels:
    """Which model files may be used: those that the operator named at start, and all below one folder.

    Attributes:
        root: That folder, absolute and without symbolic links; None where neither it nor a model was named.
        at_start: `model` and `shadow_model` as they were named.
    """

    root: Path | None
    at_start: frozenset[str]

    @classmethod
    def of_start(cls, settings: Settings) -> AllowedModels:
        """Returns what follows from the parameters given at start.

        Raises:
            ConfigError: If `model_root` is no folder.
        """
        at_start = frozenset({settings.model, settings.shadow_model})
        if settings.model_root:
            root = Path(os.path.realpath(expanded(settings.model_root)))
            if not root.is_dir():
                raise ConfigError(f"parameter model_root is {shown(settings.model_root)}, which is no folder")
            return cls(root, at_start)
        folder = expanded(settings.model).parent if settings.model else None
        return cls(Path(os.path.realpath(folder)) if folder else None, at_start)

    def checked(self, settings: Settings, names: Collection[str] = MODELS) -> Settings:
        """Returns these parameters if their models are allowed: symbolic links and `..` are followed first.

        Args:
            settings: The parameters.
            names: Of the models that are looked at: what is not loaded now need not be where it was.

        Raises:
            ConfigError: If one is not; the line names `model_root`.
        """
        for name in names:
            path = getattr(settings, name)
            if path and path not in self.at_start and not self._is_below_root(path):
                place = "and no model_root was given" if self.root is None else f"which is not below {self.root}"
                raise ConfigError(
                    f"parameter {name} is {shown(path)}, {place}; put the file there, or start the node with another "
                    "model_root"
                )
        return settings

    def _is_below_root(self, path: str) -> bool:
        # Not Path.resolve, which raises for a loop of links.
        return self.root is not None and Path(os.path.realpath(expanded(path))).is_relative_to(self.root)


@dataclass
class LiveSettings:
    """What may change between two frames: read anew for each.

    Written under `Reconfiguration`'s lock, and read by the threads that answer frames. Both fields are replaced
    as a whole, and a reader that needs two parameters takes the record once.

    Attributes:
        settings: The parameters in force, but for the cameras'.
        enabled: Whether frames are answered, see ~/set_enabled.
    """

    settings: Settings
    enabled: bool = True


def _check_names(names: Sequence[str]) -> None:
    if list(names) == [""]:
        return
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in RESERVED_NAMES:
            raise ConfigError(f"parameter cameras: {name!r} is no name for a camera; use letters, digits and _")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"parameter cameras is {list(names)}; give each camera a name of its own")
