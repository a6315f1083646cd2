"""Owns: what anybody on the graph may set of a running node, and what is said of parameters that have no effect.

Leaves to others: values out of range (test_node, test_node_results), what a swap of models does (test_node_life).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from perception import NODE, camera_of, diagnosis, transition, value
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from ros import Participant, Process, new_domain, participant, running
from std_srvs.srv import Trigger
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model's folder is `models`; beside it lies a model that nobody on the graph may use."""
    folder = tmp_path_factory.mktemp("parameters")
    (folder / "models" / "below").mkdir(parents=True)
    (folder / "models_too").mkdir()
    for name in ("models/tiny", "models/below/other", "models/shadow", "secret", "models_too/secret"):
        write_tiny_model(folder / f"{name}.onnx")
    (folder / "models" / "link.onnx").symlink_to(folder / "secret.onnx")
    (folder / "models" / "out").symlink_to(folder)
    (folder / "models" / "loop").symlink_to("loop")
    return folder


@pytest.fixture(scope="module")
def node(domain: int, folder: Path) -> Iterator[Process]:
    settings = {"model": folder / "models" / "tiny.onnx", "diagnostics_period_s": 0.05}
    with running("perception_node", domain, folder / "log.txt", **settings) as process:
        yield process


def set_one(ros: Participant, name: str, new: Any) -> Any:
    """The answer to `ros2 param set`; a Parameter.Type stands for a value of this type that is not there."""
    parameter = Parameter(name, new) if isinstance(new, Parameter.Type) else Parameter(name, value=new)
    request = SetParameters.Request(parameters=[parameter.to_parameter_msg()])
    return ros.call(SetParameters, f"{NODE}/set_parameters", request).results[0]


def set_together(ros: Participant, **parameters: Any) -> Any:
    request = SetParametersAtomically.Request(
        parameters=[Parameter(name, value=new).to_parameter_msg() for name, new in parameters.items()]
    )
    return ros.call(SetParametersAtomically, f"{NODE}/set_parameters_atomically", request).result


def get(ros: Participant, name: str) -> Any:
    return ros.call(GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=[name])).values[0]


@pytest.mark.parametrize("name", ["model", "shadow_model"])
@pytest.mark.parametrize(
    "path",
    [
        "{folder}/secret.onnx",
        "{folder}/models_too/secret.onnx",
        "{folder}/models/../secret.onnx",
        "{folder}/models/below/../../secret.onnx",
        "{folder}/models/link.onnx",
        "{folder}/models/out/secret.onnx",
        "{folder}/models/loop/../../secret.onnx",
        "{folder}/models/out/models/../secret.onnx",
        "secret.onnx",
        "~/secret.onnx",
        "/proc/self/root/secret.onnx",
        "/",
    ],
)
def test_file_outside_of_model_root_is_refused(ros: Participant, folder: Path, name: str, path: str):
    before = get(ros, name).string_value
    result = set_one(ros, name, path.format(folder=folder))
    assert not result.successful
    assert "model_root" in result.reason
    assert get(ros, name).string_value == before


def test_file_below_model_root_is_used_and_the_first_one_again(ros: Participant, folder: Path):
    first = str(folder / "models" / "tiny.onnx")
    for path in (f"{folder}/models/out/models/below/other.onnx", first):
        result = set_one(ros, "model", path)
        assert (result.successful, result.reason) == (True, "")
        assert value(diagnosis(ros, "model"), "file") == path


@pytest.mark.parametrize(
    ("name", "new", "told"),
    [
        ("model_root", "/", "read-only"),
        ("record_folder", "/tmp/frames", "read-only"),
        ("record_format", "bag", "read-only"),
        ("record_margin", 1.0, "read-only"),
        ("record_unknown", False, "read-only"),
        ("record_max_mb", 1e9, "read-only"),
        ("record_max_rate_hz", 1000.0, "read-only"),
        ("cache_dir", "/tmp", "read-only"),
        ("image_topic", "/other", "read-only"),
        ("intra_op_threads", 1024, "read-only"),
        ("max_batch_size", 256, "read-only"),
        ("score_map_max_pixels", 2**26, "read-only"),
        ("score_map_scale", 1e9, "20.0"),
        ("score_map_class", "c" * 5000, "4096"),
        ("stamps", "c" * 4000, "stamps is 'ccc"),
        ("providers", ["cpu"] * 1001, "1000"),
        ("providers", ["c" * 4000] * 1000, "providers: ONNX Runtime has no"),
        ("n" * 2**20, 1.0, "there is no parameter 'nnn"),
        ("threshold", "9" * 2**20, "a number is wanted"),
        ("providers", list(range(10**5)), "a list of texts is wanted"),
        ("shadow_model", "a\nb.onnx", "control character"),
        ("treshold", 0.5, "threshold?"),
        ("frame_topik", 0.5, "there is no parameter 'frame_topik'"),
        ("top_k", 10.0, "write 10"),
        ("top_k", "3", "write 3"),
        ("top_k", 2.5, "whole number"),
        ("threshold", "0.5", "write 0.5"),
        ("threshold", "high", "a number"),
        ("threshold", True, "a number"),
        ("rectified", "true", "write true"),
        ("rectified", 1, "write true"),
        ("score_map_class", 7, "quotes"),
        ("score_map_class", True, '"true"'),
        ("providers", "cpu", 'write ["cpu"]'),
        ("providers", [1, 2], 'write ["1", "2"]'),
        ("providers", Parameter.Type.NOT_SET, "leave it out"),
        ("threshold", Parameter.Type.NOT_SET, "no value"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_to_do(ros: Participant, name: str, new: Any, told: str):
    result = set_one(ros, name, new)
    assert not result.successful
    assert told in result.reason
    assert len(result.reason) <= 2000
    assert "\n" not in result.reason


def test_whole_number_is_taken_for_a_float_and_described_as_one(ros: Participant):
    try:
        assert set_one(ros, "smoothing_s", 1).successful
        assert get(ros, "smoothing_s").double_value == 1.0
        assert set_together(ros, max_rate_hz=10, hold_s=2).successful
        assert get(ros, "max_rate_hz").double_value == 10.0
        assert not set_one(ros, "smoothing_s", 4000).successful
    finally:
        assert set_together(ros, smoothing_s=0, max_rate_hz=0, hold_s=0).successful
    request = DescribeParameters.Request(names=["smoothing_s", "top_k"])
    floating, whole = ros.call(DescribeParameters, f"{NODE}/describe_parameters", request).descriptors
    assert (floating.type, whole.type) == (ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_INTEGER)
    assert (floating.floating_point_range[0].to_value, whole.integer_range[0].to_value) == (3600.0, 1000)


def test_parameters_set_together_are_all_set_or_none(ros: Participant):
    refused = set_together(ros, threshold=0.25, top_k=0)
    assert not refused.successful
    assert get(ros, "threshold").double_value == 0.0


@pytest.mark.parametrize(
    ("name", "new", "when"),
    [
        ("shadow_model", "{folder}/models/shadow.onnx", "at the next configure or reload_model"),
        ("providers", ["CPUExecutionProvider"], "at the next configure or reload_model"),
        ("image_transport", "compressed", "at the next configure"),
        ("rectified", True, "at the next configure"),
        ("threshold", 0.1, ""),
    ],
)
@pytest.mark.parametrize("is_active", [True, False], ids=["active", "inactive"])
def test_success_says_when_a_change_takes_effect(
    ros: Participant, node: Process, folder: Path, name: str, new: Any, when: str, is_active: bool
):
    before = {"shadow_model": "", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    before |= {"image_transport": "raw", "rectified": False, "threshold": 0.0}
    expected = f"{name} takes effect {when}" if when else ""
    if not is_active:
        assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    try:
        told = len(node.log)
        result = set_one(ros, name, new.format(folder=folder) if isinstance(new, str) else new)
        assert (result.successful, result.reason) == (True, expected)
        ros.wait_for(lambda: expected in node.log[told:], "the line in the log")
    finally:
        result = set_one(ros, name, before[name])
        assert (result.successful, result.reason) == (True, "")  # it is what is in force
        if not is_active:
            assert transition(ros, Transition.TRANSITION_ACTIVATE)


def test_success_says_what_the_model_has_nothing_for(ros: Participant):
    told = set_together(ros, score_map_scale=2, threshold=0.0).reason
    assert told == "score_map_scale has no effect: the model in use has no score map"
    assert set_one(ros, "score_map_scale", 1.0).reason == told


def shadow_is_diagnosed(ros: Participant) -> bool:
    statuses: list[DiagnosticArray] = []
    subscription = ros.node.create_subscription(DiagnosticArray, "/diagnostics", statuses.append, 10)
    ros.wait_for(lambda: len(statuses) >= 2, "diagnostics")
    ros.node.destroy_subscription(subscription)
    return any(status.name == f"{NODE}: shadow" for status in statuses[-1].status)


def test_shadow_runs_when_the_answer_says_that_it_does(ros: Participant, folder: Path):
    shadow, other = str(folder / "models" / "shadow.onnx"), str(folder / "models" / "below" / "other.onnx")
    assert "reload_model" in set_one(ros, "shadow_model", shadow).reason
    assert not shadow_is_diagnosed(ros)
    assert ros.call(Trigger, f"{NODE}/reload_model", Trigger.Request()).success
    assert shadow_is_diagnosed(ros)
    result = set_together(ros, model=other, shadow_model="")  # the swap loads both
    assert (result.successful, result.reason) == (True, "")
    assert not shadow_is_diagnosed(ros)


def test_reload_follows_the_links_again(ros: Participant, folder: Path):
    """A link that was below the folder when the parameter was set, and leads out of it when the file is read."""
    link = folder / "models" / "current.onnx"
    link.symlink_to("tiny.onnx")
    assert set_one(ros, "model", str(link)).successful
    link.unlink()
    link.symlink_to(folder / "secret.onnx")
    answer = ros.call(Trigger, f"{NODE}/reload_model", Trigger.Request())
    assert (answer.success, "model_root" in answer.message) == (False, True)
    for name, new in (("top_k", 4), ("top_k", 5), ("model", str(link))):  # nothing is loaded from there
        assert set_one(ros, name, new).successful
    link.unlink()
    link.symlink_to("tiny.onnx")
    assert ros.call(Trigger, f"{NODE}/reload_model", Trigger.Request()).success


def test_empty_model_is_refused_by_name_and_nothing_is_loaded(ros: Participant, node: Process):
    before = get(ros, "model").string_value
    result = set_one(ros, "model", "")
    assert (result.successful, result.reason.startswith("no model is given; set `model` to")) == (False, True)
    assert get(ros, "model").string_value == before
    assert "loading ." not in node.log


def test_unconfigured_node_says_that_a_model_takes_effect_later(tmp_path: Path):
    domain = new_domain()
    model, other = write_tiny_model(tmp_path / "tiny.onnx"), write_tiny_model(tmp_path / "other.onnx")
    with (
        running("perception_node", domain, tmp_path / "log", model=model, autostart=False) as process,
        participant(domain) as ros,
    ):
        result = set_one(ros, "model", str(other))
        assert (result.successful, result.reason) == (True, "model takes effect at the next configure")
        assert transition(ros, Transition.TRANSITION_CONFIGURE)
        assert f"loading {other}" in process.log


def test_without_a_first_model_no_other_can_be_chosen_by_the_graph(tmp_path: Path):
    domain = new_domain()
    with running("perception_node", domain, tmp_path / "log", autostart=False), participant(domain) as ros:
        result = set_one(ros, "model", str(write_tiny_model(tmp_path / "tiny.onnx")))
        assert (result.successful, "model_root" in result.reason) == (False, True)


def test_defaults_of_named_cameras_cannot_be_set_in_vain(tmp_path: Path):
    domain = new_domain()
    settings = {"model": write_tiny_model(tmp_path / "tiny.onnx"), "cameras": "[front]", "max_rate_hz": 10}
    with running("perception_node", domain, tmp_path / "log", **settings), participant(domain) as ros:
        assert get(ros, "front.max_rate_hz").double_value == 10.0
        result = set_one(ros, "max_rate_hz", 5.0)
        refusal = "parameter max_rate_hz is read-only: it can be given at start only; set front.max_rate_hz"
        assert (result.successful, result.reason) == (False, refusal)
        assert set_one(ros, "max_batch_size", 2).reason.endswith("it can be given at start only; restart the node")
        assert set_one(ros, "front.max_rate_hz", 5).successful
        result = set_one(ros, "front.image_transport", "compressed")
        assert result.reason == "front.image_transport takes effect at the next configure"


FILES = {
    "misspelt": (
        "perception_node: {ros__parameters: {treshold: 0.9, front: {image_topik: /a}}}",
        ["treshold (threshold?)", "front.image_topik (front.image_topic?)"],
    ),
    "of_the_model": (
        "perception_node: {ros__parameters: {class_labels: [cat], top_k: 2}}",
        ["class_labels is without effect at start: it comes from the model file"],
    ),
    "of_no_camera": (
        "perception_node: {ros__parameters: {image_topic: /cam/image, max_rate_hz: 9.0}}",
        ["image_topic is without effect", "set front.image_topic"],
    ),
    "dumped": ("perception_node: {ros__parameters: {image_topic: image_raw, max_rate_hz: 9.0}}", []),
    "of_another_node": ("perception: {ros__parameters: {threshold: 0.9}}", ["of_another_node.yaml", "/perception (/p"]),
    "of_another_namespace": ("robot: {perception_node: {ros__parameters: {top_k: 2}}}", ["/robot/perception_node"]),
    "wildcards": ("/**: {ros__parameters: {top_k: 2}}\n/*: {ros__parameters: {threshold: 0}}", []),
    "shared": (
        "perception_node: {ros__parameters: {top_k: 2, use_sim_time: false, qos_overrides: {/cam/front: "
        "{subscription: {depth: 2}}}}}\nother: {ros__parameters: {rate: 2}}",
        [],
    ),
    "qos": (
        "perception_node: {ros__parameters: {qos_overrides: {/cam/front: {subscription: {dept: 2}}}}}",
        ["qos_overrides./cam/front.subscription.dept (qos_overrides./cam/front.subscription.depth?)"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_what_of_a_parameter_file_has_no_effect_is_said_once_by_name(name: str, tmp_path: Path):
    text, told = FILES[name]
    (tmp_path / f"{name}.yaml").write_text(text)
    model = write_tiny_model(tmp_path / "tiny.onnx")
    settings = {"model": model, "cameras": "[front]", "front.image_topic": "/cam/front"}
    arguments = ("--params-file", str(tmp_path / f"{name}.yaml"))
    domain = new_domain()
    with (
        running("perception_node", domain, tmp_path / "log", *arguments, **settings) as process,
        participant(domain) as ros,
    ):
        ros.wait_for(lambda: "active: waiting" in process.log, "the node to be active")
        warnings = [line for line in process.log.splitlines() if "WARN" in line and "inference runs on" not in line]
        assert len(warnings) == bool(told), process.log
        assert all(words in warnings[0] for words in told), warnings


@pytest.mark.parametrize(
    ("images", "remapped", "told"),
    [
        (
            "/cam/front",
            "image_raw",
            "image_raw to /given .* because front.image_topic .*: remap /cam/front$",
        ),
        ("/cam/front", "/image_raw", "image_raw to /given is without effect"),
        ("/cam/front", "camera_info", "camera_info to /given is without effect, .*: remap /cam/camera_info$"),
        ("image_raw", "image_raw", ""),
        ("/given", "image_raw", ""),
        ("/image_raw", "image_raw", ""),
        ("/image_raw", "camera_info", ""),
        ("/cam/front", "/cam/front", ""),
        ("/cam/front", "/cam/camera_info", ""),
    ],
)
def test_remapped_topics_that_no_camera_listens_to_are_told(images: str, remapped: str, told: str, tmp_path: Path):
    settings = {"model": write_tiny_model(tmp_path / "tiny.onnx"), "cameras": "[front]", "front.image_topic": images}
    domain, arguments = new_domain(), ("-r", f"{remapped}:=/given")
    with (
        running("perception_node", domain, tmp_path / "log", *arguments, **settings) as process,
        participant(domain) as ros,
    ):
        ros.wait_for(lambda: "active: waiting" in process.log, "the node to be active")
        assert ("without effect" in process.log) == bool(told)
        assert re.search(told, process.log, re.MULTILINE)
        ros.wait_for(lambda: bool(ros.node.count_subscribers("/given")) != bool(told), "what is remapped to be used")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("top_k:=10.0", "write 10"),
        ('threshold:="0.5"', "write 0.5"),
        ("autostart:=1", "write true"),
        ("model:=7", "model:='\"7\"'"),
        ("providers:=cpu", 'write ["cpu"]'),
        ("providers:=[]", "leave it out"),
        ('use_sim_time:="true"', "use_sim_time; write true or false"),
        ("model:=/a\udcff.onnx", "ROS cannot be started with these arguments"),
        ("model_root:=/nowhere", "model_root is '/nowhere'"),
    ],
)
def test_wrong_type_at_start_ends_the_node_with_a_line_that_says_what_to_write(setting: str, told: str, tmp_path: Path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    process = Process("perception_node", new_domain(), tmp_path / "log", "-p", setting, model=model)
    assert process.wait() == 2
    (line,) = [line for line in process.log.splitlines() if "error" in line]
    assert told in line
    assert "Traceback" not in process.log


def test_the_node_has_met_no_defect(ros: Participant, node: Process):
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    assert "Traceback" not in node.log
