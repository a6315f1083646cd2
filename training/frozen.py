"""A network that learns nothing, on a CPU by ONNX Runtime: the same features, sooner.

ONNX Runtime folds batch normalisation and activations into the convolutions, which torch computes one after the other.
Which of the two computes follows from the network and from how many images there are, never from a measurement: the
same command gives the same features every time.
"""

from __future__ import annotations

import onnxruntime
import torch
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, ModelError, one_line
from cnn_perception.model.session import ORT_ERRORS
from cnn_perception.model.spec import InputSpec
from training.graphs.trace import to_onnx

PIXELS = 2000 * 224 * 224
"""So many all images together have at least: of fewer, small networks do not win back the seconds of the export. Large
ones do from 350 images of 224x224 on, the smallest that was tried only of more than this."""
TOLERANCE = 1e-4
"""Largest difference from torch's features, as a share of the largest of them."""
_ERRORS: tuple[type[Exception], ...] = (ConfigError, MemoryError, *ORT_ERRORS)
"""What the export and ONNX Runtime raise where they fail."""
_MOST_BYTES = 600_000_000
"""Of weights: the export needs several times their memory for a moment."""


def accelerated(network: nn.Module, size: InputSpec, count: int, device: torch.device) -> nn.Module:
    """Returns a network that gives what this one gives, within `TOLERANCE`, in less time if there is such a one.

    Args:
        network: Images (N, 3, height, width) -> features (N, D), float32, in evaluation mode; nothing of it is changed.
        size: Of the images.
        count: How many images there are.
        device: Where the network is.

    Returns:
        One by ONNX Runtime, which goes on with torch where it fails, and says so; on a GPU, for few images and for a
        network without batch normalisation the network itself.
    """
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    is_folded = any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    pays = is_folded and count * size.height * size.width >= PIXELS
    if device.type != "cpu" or not pays or weights > _MOST_BYTES:
        return network
    try:
        data = to_onnx(network, size, ("features",)).SerializeToString()
        return _ByRuntime(network, _session(data))
    except _ERRORS as error:
        _say(error)
    return network


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes decode images meanwhile
    options.log_severity_level = 4  # a failure is said once, by this module
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


class _ByRuntime(nn.Module):
    """A network by ONNX Runtime once torch agrees on the first images, and by torch from its first failure on."""

    def __init__(self, network: nn.Module, session: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self._network = network
        self._session: onnxruntime.InferenceSession | None = session
        self._is_proven = False

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features (N, D) of images (N, 3, height, width)."""
        found = self._found(images)
        if found is not None and self._is_proven:
            return found
        expected: Tensor = self._network(images)
        if found is not None:
            self._is_proven = _are_alike(found, expected)
            if not self._is_proven:
                self._end(ModelError("its features differ from torch's"))
        return expected

    def _found(self, images: Tensor) -> Tensor | None:
        if self._session is None:
            return None
        try:
            return torch.from_numpy(self._session.run(["features"], {"image": images.numpy()})[0])
        except _ERRORS as error:
            self._end(error)
        return None

    def _end(self, reason: Exception) -> None:
        _say(reason)
        self._session = None


def _are_alike(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())  # not so where one is NaN


def _say(reason: Exception) -> None:
    ProgressBar.write(f"features are computed by torch, not by ONNX Runtime: {one_line(reason, 200)}")
