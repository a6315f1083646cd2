"""Recognises what a robot's camera sees, and shows why."""

from cnn_perception.import_path import drop_working_directory

drop_working_directory(__file__)  # `from __future__` would already import from it

from typing import TYPE_CHECKING  # noqa: E402

from cnn_perception.faces import lazy  # noqa: E402

if TYPE_CHECKING:
    from cnn_perception.errors import BagError as BagError
    from cnn_perception.errors import ConfigError as ConfigError
    from cnn_perception.errors import DataError as DataError
    from cnn_perception.errors import FrameError as FrameError
    from cnn_perception.errors import ModelError as ModelError
    from cnn_perception.errors import PerceptionError as PerceptionError
    from cnn_perception.evaluation.evaluation import evaluate as evaluate
    from cnn_perception.evaluation.options import EvaluationOptions as EvaluationOptions
    from cnn_perception.image.messages import read_image as read_image
    from cnn_perception.model.spec import ModelSpec as ModelSpec
    from cnn_perception.pipeline.pipeline import Pipeline as Pipeline
    from cnn_perception.tasks.prediction import Prediction as Prediction

__version__ = "0.1.0"

__getattr__, __dir__ = lazy(
    __name__,
    {
        "BagError": "errors",
        "ConfigError": "errors",
        "DataError": "errors",
        "EvaluationOptions": "evaluation.options",
        "FrameError": "errors",
        "ModelError": "errors",
        "ModelSpec": "model.spec",
        "PerceptionError": "errors",
        "Pipeline": "pipeline.pipeline",
        "Prediction": "tasks.prediction",
        "evaluate": "evaluation.evaluation",
        "read_image": "image.messages",
    },
)
