"""Loads a model file, checks it against its own description, and runs it on the best execution provider there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.model.onnx_model import OnnxModel as OnnxModel
    from cnn_perception.model.outputs import Outputs as Outputs
    from cnn_perception.model.providers import SessionOptions as SessionOptions
    from cnn_perception.model.spec import ModelSpec as ModelSpec

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ModelSpec": "spec",
        "OnnxModel": "onnx_model",
        "Outputs": "outputs",
        "SessionOptions": "providers",
    },
)
