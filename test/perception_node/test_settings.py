"""Owns: which values of the nodes' parameters are refused. Leaves to others: what a running node does (test_node)."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from hypothesis import given
from hypothesis import strategies as st

from cnn_perception.camera_node import node
from cnn_perception.errors import ConfigError
from cnn_perception.follow_node.node import FollowSettings
from cnn_perception.image.messages import AS_SENT, ENCODINGS, Overrides
from cnn_perception.perception_node.settings import AllowedModels, CameraSettings, Settings
from cnn_perception.ros.parameters import MOST_CHARACTERS, MOST_TEXTS

PATHS = [
    (Settings, "model"),
    (Settings, "model_root"),
    (Settings, "shadow_model"),
    (Settings, "record_folder"),
    (Settings, "black_box_dir"),
    (Settings, "cache_dir"),
    (node.CameraNodeSettings, "source"),
    (node.CameraNodeSettings, "camera_info_url"),
]


@pytest.mark.parametrize(("record", "name"), PATHS)
def test_a_path_in_the_home_of_nobody_is_refused_with_the_parameters_name(record: type, name: str):
    with pytest.raises(ConfigError, match=f"^parameter {name}: there is no user 'nobody_of_this_name'"):
        record(**{name: "~nobody_of_this_name/x"})

    assert getattr(record(**{name: "~/x"}), name) == "~/x"


def test_model_options_follow_from_the_parameters_with_paths_expanded():
    plain = Settings(model="~/m.onnx").model_options()
    assert (plain.path, plain.shadow_path, plain.recorder) == (Path.home() / "m.onnx", None, None)
    settings = Settings(model="m.onnx", shadow_model="~/s.onnx", record_folder="kept", score_map_class="bee")
    options = dataclasses.replace(settings, unit_layer="relu", unit=3).model_options()
    assert (options.unit_layer, options.unit) == ("relu", 3)
    assert (options.path, options.shadow_path, options.score_map_class) == (
        Path("m.onnx"),
        Path.home() / "s.onnx",
        "bee",
    )
    assert options.recorder is not None
    assert options.recorder.folder == Path("kept")


def test_black_box_follows_from_the_parameters_and_is_none_without_a_folder():
    assert Settings().black_box() is None
    box = Settings(black_box_dir="~/box", black_box_on=["topic"], black_box_before_s=2.0).black_box()
    assert box is not None
    assert (box.folder, box.causes, box.before_s, box.after_s) == (Path.home() / "box", {"topic"}, 2.0, 5.0)


def test_cause_that_there_is_not_is_refused_with_those_to_choose_from():
    with pytest.raises(ConfigError, match=r"^parameter black_box_on: .* 'crash'; choose of drift, unknown_streak"):
        Settings(black_box_dir="box", black_box_on=["drift", "crash"])


@pytest.mark.parametrize(("cameras", "most", "batches"), [(("",), 4, (1,)), (("a", "b", "c"), 2, (1, 2))])
def test_every_batch_that_can_occur_is_warmed_up(cameras: tuple[str, ...], most: int, batches: tuple[int, ...]):
    options = Settings(cameras=cameras, max_batch_size=most).model_options()
    assert options.session.warm_up_batches == batches


# ---- what the graph may set

SET_AT_RUN_TIME = {
    Settings: {
        "model", "shadow_model",  # below model_root
        "providers", "require_gpu", "device_id",  # no path, and no size
        "score_map_scale",  # within score_map_max_pixels
        "top_k", "threshold", "smoothing_s", "hysteresis", "hold_s", "stamps", "overlay_alpha", "overlay_classes",
        "views_max_rate_hz", "views_max_share",  # which anybody costs the node by subscribing
        "unit_layer", "unit",  # of the model's own file
        "score_map_class", "label_map_threshold", "neighbours", "image_timeout_s", "model_timeout_s",
    },
    CameraSettings: {
        *("image_transport", "encoding", "significant_bits", "max_rate_hz", "rectified", "max_age_s"),
        *("rois_padding", "rois_square", "rois_max", "rois_wait_s"),
    },
    node.CameraNodeSettings: set(),
    FollowSettings: {
        "follow", "stop_classes", "min_score", "linear", "gain", "max_angular", "forward_within", "timeout_s"
    },
}  # fmt: skip
"""Whoever adds a parameter says here that anybody on the graph may set it, and why that is harmless."""
RECORDS = pytest.mark.parametrize("record", SET_AT_RUN_TIME)


@RECORDS
def test_the_graph_sets_nothing_else_than_what_this_file_says(record: type):
    fields = dataclasses.fields(record)
    assert {field.name for field in fields if not field.metadata["read_only"]} == SET_AT_RUN_TIME[record]


@RECORDS
def test_every_number_has_a_range_and_no_path_is_set_but_a_models(record: type):
    for field in dataclasses.fields(record):
        is_number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
        assert not is_number or field.metadata["between"], field.name
        is_free = field.metadata["is_path"] and not field.metadata["read_only"]
        assert not is_free or field.name in ("model", "shadow_model")


@RECORDS
def test_texts_are_bounded_and_of_one_line(record: type):
    valid = {"follow": "dog"} if record is FollowSettings else {}
    for field in dataclasses.fields(record):
        is_list = isinstance(field.default, tuple)
        if not (is_list or isinstance(field.default, str)):
            continue
        for text in ("c" * (MOST_CHARACTERS + 1), "a\nb", "a\x00b", "a\x1b[31mb", "\ud800"):
            value = (text,) if is_list else text
            with pytest.raises(ConfigError, match=f"^parameter {field.name} [^\n\x00\x1b]{{1,300}}$"):
                record(**(valid | {field.name: value}))
        if is_list:
            with pytest.raises(ConfigError, match=f"^parameter {field.name} has {MOST_TEXTS + 1} values"):
                record(**(valid | {field.name: ("c",) * (MOST_TEXTS + 1)}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree").resolve()
    (folder / "models" / "below").mkdir(parents=True)
    (folder / "models_too").mkdir()
    for name in ("models/a.onnx", "models/below/a.onnx", "a.onnx", "models_too/a.onnx"):
        (folder / name).touch()
    (folder / "models" / "out").symlink_to("..")
    (folder / "models" / "below" / "up").symlink_to(folder)
    (folder / "models" / "loop").symlink_to("loop")
    (folder / "models" / "b.onnx").symlink_to("../a.onnx")
    (folder / "models" / "below" / "b.onnx").symlink_to("../a.onnx")
    (folder / "link").symlink_to("models")
    return folder


PARTS = ["models", "below", "models_too", "link", "out", "up", "loop", "..", ".", "", "a.onnx", "b.onnx"]


@given(parts=st.lists(st.sampled_from(PARTS), max_size=8), last=st.sampled_from(["a.onnx", "b.onnx"]))
def test_a_file_is_allowed_just_when_the_kernel_opens_it_below_the_root(folder: Path, parts: list[str], last: str):
    """Oracle: what /proc says of the file that this path opens."""
    allowed = AllowedModels.of_start(Settings(model_root=str(folder / "link")))
    path = "/".join([str(folder), *parts, last])
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return
    true_path = str(Path(f"/proc/self/fd/{opened}").readlink())
    os.close(opened)
    for name in ("model", "shadow_model"):
        settings = Settings(**{name: path})
        if true_path.startswith(f"{folder}/models/"):
            assert allowed.checked(settings) is settings
        else:
            with pytest.raises(ConfigError, match=f"^parameter {name} is .* not below {folder}/models; .*model_root$"):
                allowed.checked(settings)


@given(path=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100))
def test_any_path_is_allowed_or_refused_by_name(folder: Path, path: str):
    allowed = AllowedModels.of_start(Settings(model_root=str(folder)))
    try:
        settings = Settings(model=path)
    except ConfigError:
        return  # of a user who does not exist
    if Path(path).is_absolute() or Path(path).expanduser() != Path(path):
        with pytest.raises(ConfigError, match="model_root"):
            allowed.checked(settings)


def test_the_root_is_the_first_models_folder_at_start_and_what_was_named_then_stays_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder / "models_too")
    start = Settings(model="../link/a.onnx", shadow_model=str(folder / "a.onnx"))
    allowed = AllowedModels.of_start(start)
    monkeypatch.chdir("/")
    assert allowed.root == folder / "models"
    for settings in (start, Settings(model=str(folder / "models" / "below" / "a.onnx")), Settings()):
        assert allowed.checked(settings) is settings
    with pytest.raises(ConfigError, match="shadow_model"):
        allowed.checked(dataclasses.replace(start, shadow_model=str(folder / "models_too" / "a.onnx")))


def test_only_the_models_that_are_asked_about_are_looked_at(folder: Path):
    allowed = AllowedModels.of_start(Settings(model_root=str(folder / "models")))
    settings = Settings(model=str(folder / "secret.onnx"), shadow_model=str(folder / "models" / "a.onnx"))
    for names in ((), ("shadow_model",)):
        assert allowed.checked(settings, names) is settings
    for names in (("model",), ("shadow_model", "model")):
        with pytest.raises(ConfigError, match=r"^parameter model is"):
            allowed.checked(settings, names)


def test_without_a_model_and_a_root_nothing_is_allowed(folder: Path):
    allowed = AllowedModels.of_start(Settings())
    with pytest.raises(ConfigError, match="no model_root was given"):
        allowed.checked(Settings(model=str(folder / "a.onnx")))


def test_a_root_that_is_no_folder_is_refused(folder: Path):
    for path in (folder / "a.onnx", folder / "missing"):
        with pytest.raises(ConfigError, match=r"^parameter model_root is .*, which is no folder$"):
            AllowedModels.of_start(Settings(model_root=str(path)))


def test_a_camera_is_believed_unless_its_parameters_say_what_is_known_better():
    assert CameraSettings().overrides == AS_SENT
    assert CameraSettings(encoding="bgr8", significant_bits=12).overrides == Overrides("bgr8", 12)
    for encoding in ENCODINGS:
        assert CameraSettings(encoding=encoding).overrides.encoding == encoding


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"encoding": "8UC3"}, "^parameter encoding is '8UC3'; choose '' or one of rgb8, "),
        ({"encoding": "BGR8"}, "^parameter encoding is 'BGR8'"),
        ({"significant_bits": 3}, "^parameter significant_bits is 3; choose 0 for all, or 8 to 16"),
        ({"significant_bits": 17}, "^parameter significant_bits is 17; choose 0 to 16"),
    ],
)
def test_an_unknown_encoding_or_bits_that_no_camera_has_are_refused(values: dict[str, Any], text: str):
    with pytest.raises(ConfigError, match=text):
        CameraSettings(**values)


def test_boxes_of_a_camera_with_a_name_come_on_a_topic_of_its_own_unless_the_topic_is_absolute():
    for topic, own in [("", ""), ("boxes", "front/boxes"), ("/detector/boxes", "/detector/boxes")]:
        assert CameraSettings(rois_topic=topic).of_camera("front").rois_topic == own


def test_every_batch_of_boxes_that_can_occur_is_warmed_up_where_there_are_boxes():
    settings = Settings(cameras=("front", "rear"), rois_batch_size=3)
    assert settings.model_options().session.warm_up_batches == (1, 2)
    assert settings.model_options(has_rois=True).session.warm_up_batches == (1, 2, 3)
    assert Settings(rois_batch_size=1).model_options(has_rois=True).session.warm_up_batches == (1,)
