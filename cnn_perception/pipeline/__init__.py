"""The way of a frame, as four calls: decode, preprocess, run, postprocess."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.pipeline.pipeline import Pipeline as Pipeline
    from cnn_perception.pipeline.pipeline import Prepared as Prepared
    from cnn_perception.pipeline.pipeline import Result as Result

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Pipeline": "pipeline",
        "Prepared": "pipeline",
        "Result": "pipeline",
    },
)
