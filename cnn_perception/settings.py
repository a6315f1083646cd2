"""The parameters of `perception_node`. What a model is (size, mean, labels, ...) is none: it is in the model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.inference import DEFAULT_PROVIDERS, SessionOptions
from cnn_perception.overlay import DEFAULT_ALPHA
from cnn_perception.parameters import parameter, validate

IMAGE_TRANSPORTS = ("raw", "compressed")


@dataclass(frozen=True)
class Settings:
    """One valid set of parameters.

    Raises:
        ConfigError: If a value is out of range.
    """

    model: str = parameter("", "Path of the ONNX model file made by training.export.")
    providers: Sequence[str] = parameter(
        DEFAULT_PROVIDERS, "ONNX Runtime execution providers, the preferred first; the CPU is always the last resort."
    )
    intra_op_threads: int = parameter(0, "CPU threads of one inference; 0 is one a physical core.", between=(0, 1024))
    image_transport: str = parameter("raw", "Subscribe to raw or to compressed images.", choices=IMAGE_TRANSPORTS)
    autostart: bool = parameter(True, "Configure and activate at start.", read_only=True)
    top_k: int = parameter(5, "Most classes that a classification lists.", between=(1, 1000), live=True)
    threshold: float = parameter(
        0.0,
        "Classes with a lower score are left out; a multilabel model's own thresholds apply too.",
        between=(0.0, 1.0),
        live=True,
    )
    overlay_alpha: float = parameter(
        DEFAULT_ALPHA, "Opacity of the overlay where the activation map is strongest.", between=(0.0, 1.0), live=True
    )
    image_timeout_s: float = parameter(
        3.0, "Seconds without an image after which the camera is reported as silent.", between=(0.1, 3600.0), live=True
    )

    diagnostics_period_s: float = parameter(
        1.0, "Seconds between two messages on /diagnostics.", between=(0.05, 60.0), read_only=True
    )

    def __post_init__(self) -> None:
        validate(self)
        self.session_options()

    @property
    def model_path(self) -> Path:
        """The model file, with ~ expanded."""
        return Path(self.model).expanduser()

    def session_options(self) -> SessionOptions:
        """Returns how the model is to be run."""
        return SessionOptions(self.providers, self.intra_op_threads)
