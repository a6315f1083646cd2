"""Fuzzes what people write by hand: tables of labels and of numbers, and calibrations of cameras."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import tiny_model

from cnn_perception.camera_node.calibration_file import fitted, read_calibration
from cnn_perception.evaluation.labels import read_labels, read_measurements
from cnn_perception.geometry.camera_model import CameraModel
from fuzz.documents import mutated_csv, mutated_yaml
from fuzz.mutation import mutated
from fuzz.target import Files, Sample, Target, content_of
from training.data import csv_table
from training.tasks.choices import TaskChoice

_CALIBRATION = b"""image_width: 64
image_height: 48
camera_name: narrow
camera_matrix: {rows: 3, cols: 3, data: [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]}
distortion_model: %s
distortion_coefficients: {rows: 1, cols: 5, data: [-0.1, 0.02, 0.001, 0.0%s]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [50.0, 0, 31.5, 0, 0, 50.0, 23.5, 0, 0, 0, 1, 0]}
"""


_TASKS: dict[str, tuple[TaskChoice, tuple[str, ...]]] = {
    "class": ("auto", ()),
    "classes": ("auto", ()),
    "states": ("auto", ()),
    "zeros": ("multilabel", ()),
    "numbers": ("regression", ("angle:rad",)),
}
"""What is to be learned of each valid table."""


def label_target() -> Target:
    """Returns the readers of evaluation's tables: intervals of classes, and measured numbers."""
    return Target("labels", _label_samples, _mutate_table, _check_labels, batch=300)


def table_target() -> Target:
    """Returns the reader of training's tables, for every task."""
    return Target("table", _table_samples, _mutate_table, _check_table, batch=300)


def calibration_target() -> Target:
    """Returns the reader of calibrations, and the rays of the camera."""
    return Target("calibration", _calibration_samples, _mutate_calibration, _check_calibration, batch=50)


def _label_samples() -> list[Sample]:
    return [
        Sample("classes", {"labels.csv": b"start_s,end_s,class\n0,1.5,red\n1.5,2,none\n2,9,\"blue\"\n"}),
        Sample("sets", {"labels.csv": b"start_s,end_s,class\n0,1.5,red;green\n1.5,2,;\n"}),
        Sample("numbers", {"labels.csv": b"time_s,angle,throttle\n0,0.1,1\n0.5,-0.25,0\n1,1e-3,0.5\n"}),
    ]  # fmt: skip


def _table_samples() -> list[Sample]:
    return [
        Sample("class", {"labels.csv": b"path,class,part,group\na.png,red,train,1\nb.png,blue,train,2\n"}),
        Sample(
            "states",
            {
                "labels.csv": b"path,class,state,part,bag,guess,doubt\na.png,red,labelled,train,d,red,0.5\n"
                b"b.png,none of these,labelled,train,d,,\nc.png,,skipped,,,blue,1\n"
            },
        ),
        Sample("classes", {"labels.csv": b"path,classes\na.png,red;blue\nb.png,\nc.png,red|green\n"}),
        Sample("zeros", {"labels.csv": b"path,red,blue\na.png,1,0\nb.png,0,0\nc.png,1,1\n"}),
        Sample("numbers", {"labels.csv": b"path,angle,bag\na.png,0.5,x\nb.png,-1,x\nc.png,1e3,y\n"}),
    ]


def _mutate_table(random: Random, sample: Sample, _: Sequence[Sample]) -> Files:
    change = mutated if random.random() < 0.4 else mutated_csv
    return {name: change(random, content) for name, content in sample.files.items()}


def _check_labels(sample: Sample) -> str:
    path = _written(sample, "labels.csv")
    if sample.origin == "numbers":
        found = read_measurements(path, ("angle", "throttle"))
        found.at(found.times_ns[0])
        return "measurements"
    spec = tiny_model.tiny_spec()
    if sample.origin == "sets":
        spec = tiny_model.as_multilabel(spec, 0.5, 0.5, 0.5)
    read_labels(path).scored_as(spec, "labels.csv").at(1)
    return "labels"


def _check_table(sample: Sample) -> str:
    path = _written(sample, "labels.csv")
    for name in ("a.png", "b.png", "c.png"):
        (path.parent / name).touch()
    return f"{csv_table.read(path, *_TASKS[sample.origin]).task} table"


def _calibration_samples() -> list[Sample]:
    return [
        Sample("plumb_bob", {"camera.yaml": _CALIBRATION % (b"plumb_bob", b", 0.0")}),
        Sample("equidistant", {"camera.yaml": _CALIBRATION % (b"equidistant", b"")}),
    ]


def _mutate_calibration(random: Random, sample: Sample, _: Sequence[Sample]) -> Files:
    change = mutated if random.random() < 0.4 else mutated_yaml
    return {name: change(random, content) for name, content in sample.files.items()}


def _check_calibration(sample: Sample) -> str:
    url = str(_written(sample, "camera.yaml"))
    info = fitted(read_calibration(url), url, 64, 48)
    camera = CameraModel.from_message(info, "camera")
    camera.check_size(48, 64)
    return f"{camera.distortion} {'ray' if camera.ray(3, 7) is not None else 'no ray'}"


def _written(sample: Sample, name: str) -> Path:
    path = Path(tempfile.gettempdir()) / name
    path.write_bytes(content_of(sample))
    return path
