"""A `Prediction` as ROS messages. Every header is the image's own, to the nanosecond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Vector3, Vector3Stamped
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass, VisionInfo

from cnn_perception.model.gallery import Neighbour
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.pipeline.label_pixels import NONE
from cnn_perception.pipeline.score_map import Cells
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.rules import MessageKind

ANSWER_TYPES: Mapping[MessageKind, type[Any]] = {"classification": Classification, "numbers": JointState}
"""The message type of each kind of answer, see `to_answer`."""


def to_answer(
    header: Header, prediction: Prediction, kind: MessageKind, top_k: int, threshold: float
) -> Classification | JointState:
    """Returns the answer as a message of its kind.

    Args:
        header: The image's.
        prediction: The answer.
        kind: Of message; see `ANSWER_TYPES`.
        top_k: Most classes of a classification.
        threshold: Least score of its classes, in [0, 1].
    """
    if kind == "numbers":
        return to_joint_state(header, prediction)
    return to_classification(header, prediction.ranked(top_k, threshold))


def to_classification(header: Header, ranked: Sequence[tuple[str, float]]) -> Classification:
    """Returns the results, best first.

    `class_id` is the class name, which `to_label_info` lists with its number; `score` in [0, 1] is a probability, but
    1 for `unknown`: the model's rule says yes or no.
    """
    results = [ObjectHypothesis(class_id=name, score=score) for name, score in ranked]
    return Classification(header=header, results=results)


def to_neighbours(header: Header, neighbours: Sequence[Neighbour]) -> Classification:
    """Returns reference images, nearest first.

    `class_id` is the name of the image. `score` is the cosine similarity in [0, 1], 1 for the same direction and 0 for
    nothing in common or less: larger is better, as in every ObjectHypothesis, but it is no probability.
    """
    results = [ObjectHypothesis(class_id=one.name, score=max(0.0, 1.0 - one.distance)) for one in neighbours]
    return Classification(header=header, results=results)


def to_ray(header: Header, direction: npt.NDArray[np.float64]) -> Vector3Stamped:
    """Returns a (3,) direction of length 1 in the camera's optical frame: x to the right, y down, z forward."""
    x, y, z = direction.tolist()
    return Vector3Stamped(header=header, vector=Vector3(x=x, y=y, z=z))


def to_map_info(header: Header, cells: Cells, shape: tuple[int, int], info: CameraInfo | None) -> CameraInfo:
    """Returns the camera_info of a score map as an image of its own, whose pixels are cells.

    Args:
        header: The image's.
        cells: Where the cells lie in the camera's image.
        shape: (rows, columns) of the map.
        info: The camera's own; None, or one without calibration, leaves the matrices zero.
    """
    found = CameraInfo(header=header, height=shape[0], width=shape[1])
    if info is not None:
        corner, binning = (info.roi.x_offset, info.roi.y_offset), (info.binning_x, info.binning_y)
        found.distortion_model = info.distortion_model
        found.d = info.d
        found.r = info.r
        found.k = cells.camera_matrix(info.k, corner, binning)
        found.p = cells.camera_matrix(info.p, corner, binning)
    return found


def to_joint_state(header: Header, prediction: Prediction) -> JointState:
    """Returns the numbers of a regression: `name` their names, `position` their values in the model's units."""
    return JointState(header=header, name=list(prediction.class_names), position=prediction.values.tolist())


def to_pixel_info(header: Header, spec: ModelSpec, threshold: float) -> LabelInfo:
    """Returns what the values of a label map's pixels mean: 0 is `NONE`, the classes follow in the model's order.

    The numbers are those of `to_label_info` and 1 more, for there 0 is the first class.
    """
    classes = [VisionClass(class_id=value, class_name=name) for value, name in enumerate([NONE, *spec.class_names])]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)


def to_vision_info(header: Header, spec: ModelSpec, sha256: str, location: str, version: int) -> VisionInfo:
    """Returns which network runs and where its labels are found: `location` is `<node>/class_labels`, a parameter."""
    method = f"{spec.architecture} sha256:{sha256}"
    return VisionInfo(header=header, method=method, database_location=location, database_version=version)


def labels(spec: ModelSpec) -> list[str]:
    """Returns the names by their index in the logits; `unknown` is the last where the model has a rule for it."""
    return [*spec.class_names, *([UNKNOWN] if spec.unknown else [])]


def to_label_info(header: Header, spec: ModelSpec, threshold: float) -> LabelInfo:
    """Returns every `class_id` of a classification by its number, see `labels`."""
    classes = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(labels(spec))]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)
