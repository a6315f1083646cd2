"""Owns: level, text and figures of each diagnostic status. No DDS: statuses are made and looked at.

Leaves to others: that a running node publishes them, and when (test_node, test_node_faults).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from node_parts import CPU
from tiny_model import regression_spec, tiny_spec, with_unknown

from cnn_perception.background.recorder import RecorderReport
from cnn_perception.background.shadow import ShadowReport
from cnn_perception.background.viewers import ViewersReport
from cnn_perception.black_box.black_box import BlackBoxReport
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.perception_node.active_model import ActiveModel, ModelOptions
from cnn_perception.perception_node.diagnostics import CameraStatus, to_array
from cnn_perception.pipeline.unit_map import Layer, Layers
from cnn_perception.stream.drift import DriftReport
from cnn_perception.stream.frame_counters import Snapshot, Tally

OK, WARN, ERROR = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
)
RECENT = Tally(received=100, answered=100)
SNAPSHOT = Snapshot(
    input_rate_hz=30.0,
    output_rate_hz=25.04,
    total=Tally(received=190, answered=175),
    unknown=2,
    recent=RECENT,
    recent_s=10.0,
    newly_broken=0,
    refusals={"encoding": "no such encoding", "size": "too large"},
    percentiles_ms={},
)
DRIFT = DriftReport(3, None, None, False, None, None, ())
CAMERA = CameraStatus(
    camera="front",
    topic="/front/image_raw",
    active=True,
    enabled=True,
    silence_s=0.1,
    timeout_s=3.0,
    snapshot=SNAPSHOT,
    drift=DRIFT,
    subscription="reliable, as its publishers offer",
    remedy="have it publish reliable",
)


def statuses(
    *cameras: CameraStatus,
    model: ActiveModel | None = None,
    overdue: str = "",
    namesakes: str = "",
    viewers: ViewersReport | None = None,
    black_box: BlackBoxReport | None = None,
    refusal: str = "",
) -> dict[str, DiagnosticStatus]:
    """By what comes after the node's name."""
    more = {"namesakes": namesakes, "viewers": viewers, "refusal": refusal, "black_box": black_box}
    array = to_array(Time(sec=5), "/robot/node", cameras, model, overdue, **more)
    assert array.header.stamp == Time(sec=5)
    for status in array.status:
        assert status.hardware_id == "/robot/node"
        assert status.name.startswith("/robot/node: ")
    return {status.name.removeprefix("/robot/node: "): status for status in array.status}


def recently(**counts: Any) -> Tally:
    """What became of the latest 100 frames but for these counts."""
    return dataclasses.replace(RECENT, **counts)


def camera(**changes: Any) -> DiagnosticStatus:
    """The status of a camera that is well but for these fields, of it or of its counts."""
    of_counts = {field.name for field in dataclasses.fields(Snapshot)} & changes.keys()
    snapshot = dataclasses.replace(SNAPSHOT, **{name: changes.pop(name) for name in of_counts})
    return statuses(dataclasses.replace(CAMERA, snapshot=snapshot, **changes))["camera front"]


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_a_camera_says_which_topics_it_listens_to_and_answers_on():
    said = values(camera(topic="/front/image_raw", camera_info="/lens/info"))
    assert (said["topic"], said["camera_info"]) == ("/front/image_raw", "/lens/info")
    said = values(camera(answers="/seen/what", overlay="/seen/where"))
    assert (said["answers"], said["overlay"]) == ("/seen/what", "/seen/where")


def test_a_count_that_means_nothing_is_named_beside_the_counts():
    assert "not counted" not in values(camera())
    said = values(camera(not_counted="overtaken: rmw_of_nobody does not number messages"))
    assert said["not counted"] == "overtaken: rmw_of_nobody does not number messages"


UNHEARD = "/robot/node/classification"
SIX_BAD = Counter({"encoding": 4, "size": 2})


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, OK, "25.0 frames/s answered"),
        ({"active": False}, OK, "the node is not active"),
        ({"active": False, "silence_s": 9.0, "stalled": "nothing"}, OK, "the node is not active"),
        ({"silence_s": 3.0}, OK, "25.0 frames/s answered"),
        ({"silence_s": 3.25}, ERROR, "no image for 3.2 s"),
        ({"silence_s": 3.25, "silence": "nobody publishes it"}, ERROR, "no image for 3.2 s: nobody publishes it"),
        (
            {"silence_s": 3.25, "kept_by": "/cam"},
            OK,
            "the one picture that /cam has published, and keeps, was answered",
        ),
        (
            {"silence_s": 3.25, "kept_by": "/cam", "total": Tally(received=1), "is_wanted": False},
            OK,
            "the one picture that /cam has published came while nobody wanted an answer; publish it again",
        ),
        (
            {"silence_s": 3.25, "kept_by": "/cam", "total": Tally(received=1)},
            WARN,
            "the one picture that /cam has published came while nobody wanted an answer; publish it again",
        ),
        (
            {
                "silence_s": 3.25,
                "kept_by": "/cam",
                "total": Tally(received=1, dropped=Counter({"size": 1})),
                "refusals": {"size": "too small"},
            },
            WARN,
            "the one picture that /cam has published was dropped (size): too small",
        ),
        ({"silence_s": 3.25, "kept_by": "/cam", "mixed": "2 at once"}, WARN, "2 at once"),
        ({"silence_s": 2.0, "kept_by": "/cam"}, OK, "25.0 frames/s answered"),
        ({"stalled": "inference for 2.0 s"}, ERROR, "no frame is answered: inference for 2.0 s"),
        ({"mixed": "2 publishers at once"}, WARN, "2 publishers at once"),
        ({"mixed": "2 publishers at once", "recent": recently(lost=10)}, WARN, "2 publishers at once"),
        ({"mixed": "2 publishers at once", "silence_s": 3.25}, ERROR, "no image for 3.2 s"),
        ({"mixed": "2 publishers at once", "active": False}, OK, "the node is not active"),
        ({"newly_broken": 2}, ERROR, "2 frames met a defect of this node; see its log"),
        (
            {"recent": recently(lost=10)},
            WARN,
            "10 of 110 frames were lost on the way in the last 10 s: have it publish reliable",
        ),
        (
            {"recent": recently(dropped=SIX_BAD)},
            WARN,
            "6 of 100 frames dropped in the last 10 s (encoding, size): no such encoding",
        ),
        (
            {
                "recent": recently(
                    oddities=Counter({"stamp_zero": 3, "clock_back": 4, "jpeg": 9}), harmless=Counter(jpeg=9)
                )
            },
            WARN,
            "7 oddities of 100 frames in the last 10 s (clock_back, stamp_zero)",
        ),
        (
            {
                "recent": recently(oddities=Counter({"stamp_zero": 3, "clock_zero": 4})),
                "refusals": {"clock_zero": "nobody publishes /clock", "stamp_zero": "no stamp"},
            },
            WARN,
            "7 oddities of 100 frames in the last 10 s (clock_zero, stamp_zero): nobody publishes /clock",
        ),
        ({"drift": dataclasses.replace(DRIFT, warnings=("too dark", "unsure"))}, WARN, "too dark; unsure"),
        ({"drift": None}, OK, "25.0 frames/s answered"),
        ({"enabled": False}, OK, "disabled by ~/set_enabled"),
        ({"output_rate_hz": 0.0}, OK, "0.0 frames/s answered"),
        (
            {"output_rate_hz": 0.0, "unheard": UNHEARD, "is_wanted": False},
            OK,
            f"idle: nobody subscribes to {UNHEARD} or another result",
        ),
        ({"unheard": UNHEARD}, OK, f"25.0 frames/s answered; nobody subscribes to {UNHEARD}"),
        ({"unheard": UNHEARD, "is_wanted": False}, OK, f"25.0 frames/s answered; nobody subscribes to {UNHEARD}"),
    ],
)
def test_camera_has_the_level_and_text_of_its_worst_trouble(changes: dict[str, Any], level: bytes, text: str):
    status = camera(**changes)
    assert (status.level, status.message) == (level, text)


@pytest.mark.parametrize(
    ("recent", "level"),
    [
        (recently(lost=5), OK),  # of 105
        (recently(lost=6), WARN),  # of 106
        (recently(dropped=Counter(encoding=5)), OK),
        (recently(dropped=Counter(encoding=6)), WARN),
        (recently(oddities=Counter(stamp_zero=5)), OK),
        (recently(oddities=Counter(stamp_zero=6)), WARN),
        # A slow model takes ten of a hundred frames: what it takes is judged, not what it never sees.
        (recently(overtaken=90, dropped=Counter(encoding=2)), WARN),
        (recently(overtaken=90, dropped=Counter(encoding=1)), OK),
        (Tally(received=1, dropped=Counter(encoding=1)), OK),
        (Tally(received=0, lost=55), WARN),
        (recently(dropped=Counter(defect=50)), OK),  # these are an error while they happen
    ],
)
def test_it_is_a_share_of_the_recent_frames_that_is_warned_of_never_a_single_one(recent: Tally, level: bytes):
    assert camera(recent=recent).level == level


def test_frames_overtaken_by_newer_ones_are_no_fault_and_their_share_is_said():
    status = camera(recent=recently(received=300, overtaken=200))
    assert (status.level, status.message) == (OK, "25.0 frames/s answered, 67% of the frames overtaken by newer ones")


def test_worse_trouble_hides_the_lesser():
    """From the worst on, each is added to those before it."""
    lesser: dict[str, Any] = {"enabled": False, "recent": RECENT}
    for change, word in (
        ({"drift": dataclasses.replace(DRIFT, warnings=("too dark",))}, "dark"),
        ({"oddities": Counter(stamp_zero=50)}, "oddities"),
        ({"dropped": Counter(encoding=50)}, "dropped"),
        ({"lost": 50}, "lost"),
        ({"newly_broken": 1}, "defect"),
        ({"silence_s": 9.0}, "no image"),
        ({"stalled": "inference for 2.0 s"}, "inference"),
        ({"active": False}, "not active"),
    ):
        of_recent = {name: value for name, value in change.items() if hasattr(RECENT, name)}
        lesser |= change if not of_recent else {"recent": dataclasses.replace(lesser["recent"], **of_recent)}
        assert word in camera(**lesser).message


def test_camera_lists_rates_counts_percentiles_and_drift():
    total = Tally(190, 175, 7, 3, Counter({"size": 3, "encoding": 1}), Counter({"stamp_zero": 2}))
    found = values(camera(total=total, percentiles_ms={"inference": (1.234, 5.678)}))
    assert found == {
        "topic": "/front/image_raw",
        "camera_info": "",
        "answers": "",
        "overlay": "",
        "subscription": "reliable, as its publishers offer",
        "input rate (Hz)": "30.00",
        "output rate (Hz)": "25.04",
        "received": "190",
        "answered": "175",
        "unknown": "2",
        "lost on the way": "7",
        "overtaken": "3",
        "dropped: encoding": "1",
        "dropped: size": "3",
        "odd: stamp_zero": "2",
        "inference p50/p95 (ms)": "1.23 / 5.68",
        "drift: frames": "3",
    }


def test_only_camera_has_no_name_and_several_come_in_their_order():
    assert list(statuses(dataclasses.replace(CAMERA, camera=""))) == ["camera", "model", "callbacks", "graph"]
    rear = dataclasses.replace(CAMERA, camera="rear")
    assert list(statuses(CAMERA, rear)) == ["camera front", "camera rear", "model", "callbacks", "graph"]


def model(
    spec: Any = None,
    fallback: str = "",
    shadow: Any = None,
    recorder: Any = None,
    session: SessionOptions = CPU,
    gallery: Any = None,
    layers: Any = None,
    choice: str = "",
    path: str = "/models/tiny.onnx",
) -> ActiveModel:
    onnx: Any = SimpleNamespace(
        path=Path(path),
        sha256="ab" * 32,
        spec=spec or tiny_spec(),
        provider="CPUExecutionProvider",
        placement="all on the CPU",
        fallback=fallback,
        gallery=gallery,
    )
    units = SimpleNamespace(known=layers)
    pipeline: Any = SimpleNamespace(model=onnx, spec=onnx.spec, units=units, choice=choice)
    return ActiveModel(ModelOptions(onnx.path, session), pipeline, shadow, recorder)


def test_choice_of_the_fastest_is_told_where_there_was_one():
    told = "tiny_int8.onnx on CPUExecutionProvider 1.0 ms; tiny.onnx on CPUExecutionProvider 2.0 ms"
    key = "taken as the fastest"
    assert key not in {pair.key for pair in statuses(model=model())["model"].values}
    assert {pair.key: pair.value for pair in statuses(model=model(choice=told))["model"].values}[key] == told


def test_without_a_model_all_is_well_unless_it_was_refused():
    status = statuses()["model"]
    assert (status.level, status.message, status.values) == (OK, "no model is loaded", [])
    resting = dataclasses.replace(CAMERA, active=False)
    found = statuses(resting, refusal="not configured: no such file")
    assert {found[name].level for name in ("model", "camera front")} == {ERROR}
    assert found["model"].message == "no model is loaded: not configured: no such file"
    assert found["camera front"].message == "the node is not active: not configured: no such file"


def test_an_active_node_is_judged_by_its_frames_though_a_transition_was_refused():
    assert statuses(CAMERA, refusal="not deactivated: as planned")["camera front"].level == OK


def test_model_says_file_task_and_the_provider_really_in_use():
    status = statuses(model=model(with_unknown(tiny_spec(), 0.0)))["model"]
    assert (status.level, status.message) == (OK, "running on CPUExecutionProvider")
    assert values(status) == {
        "file": "/models/tiny.onnx",
        "sha256": "ab" * 32,
        "architecture": "tiny",
        "task": "multiclass",
        "classes": "3",
        "unknown rule": "energy",
        "calibrated": "no",
        "score of unknown": "1: a yes of the model's rule, no probability",
        "provider": "CPUExecutionProvider",
        "placement": "all on the CPU",
    }


def test_the_models_file_is_told_so_that_a_reader_in_another_folder_finds_it(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "best.onnx").write_bytes(b"model")
    monkeypatch.chdir(tmp_path / "runs")
    told = [values(statuses(model=model(path=path))["model"])["file"] for path in ("best.onnx", "../runs/best.onnx")]

    monkeypatch.chdir("/")
    assert [Path(one).read_bytes() for one in told] == [b"model"] * 2


def test_model_says_the_ends_of_its_stages_once_somebody_has_asked_for_a_layer():
    layers = [Layer("relu", 8, 12, 16), Layer("features", 3, 3, 4)]
    found = values(statuses(model=model(layers=Layers(layers, layers)))["model"])
    assert found["ends of its stages"] == "relu (8x12x16), features (3x3x4)"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (dataclasses.replace(tiny_spec(), temperature=1.7), None),
        (dataclasses.replace(tiny_spec(), temperature=1.0), "no"),
        (regression_spec({"speed": "m/s"}), None),
    ],
    ids=["fitted", "never fitted", "numbers"],
)
def test_model_says_where_its_scores_are_not_calibrated(spec, said):
    assert values(statuses(model=model(spec))["model"]).get("calibrated") == said


def test_model_says_which_scores_are_no_probabilities():
    found = values(statuses(model=model(tiny_spec(), gallery=object()))["model"])
    assert found["score of neighbours"] == "cosine similarity in [0, 1], no probability"
    assert "score of unknown" not in found


def test_model_of_numbers_lists_them_with_their_units():
    found = values(statuses(model=model(regression_spec({"speed": "m/s", "angle": ""})))["model"])
    assert (found["numbers"], found["unknown rule"]) == ("speed (m/s), angle", "none")
    assert "classes" not in found


@pytest.mark.parametrize(
    ("session", "level"),
    [
        (SessionOptions(), OK),
        (SessionOptions(providers=["CUDAExecutionProvider", "CPUExecutionProvider"]), OK),  # as launch/perception.yaml
        (SessionOptions(providers=["tensorrt", "cuda"]), WARN),
        (SessionOptions(providers=["openvino"]), WARN),
    ],
    ids=["defaults", "defaults written out", "GPU asked for", "OpenVINO asked for"],
)
def test_fallback_to_the_cpu_is_said_with_its_reason_and_a_warning_where_more_was_asked_for(
    session: SessionOptions, level: bytes
):
    status = statuses(model=model(fallback="CUDA cannot be started", session=session))["model"]
    assert (status.level, status.message) == (level, "running on CPUExecutionProvider: CUDA cannot be started")


SHADOWED = ShadowReport(8, 2, 0, 1, {}, (("red", "blue", 2),), (), "")
RECORDED = RecorderReport(7, 2_500_000, 10_000_000, {"rate": 1}, "")


@pytest.mark.parametrize(
    ("problem", "level", "text"),
    [("", OK, "25.0% of 8 frames answered otherwise"), ("stopped by a defect", ERROR, "stopped by a defect")],
)
def test_shadow_has_a_status_of_its_own(problem: str, level: bytes, text: str):
    report = dataclasses.replace(SHADOWED, problem=problem)
    shadow = SimpleNamespace(report=lambda: report, note="only the shadow knows violet")
    status = statuses(model=model(shadow=shadow))["shadow"]
    assert (status.level, status.message) == (level, text)
    found = values(status)
    assert (found["shadow: disagreed"], found["shadow: note"]) == ("2", "only the shadow knows violet")


def test_callback_that_takes_long_is_warned_of():
    status = statuses()["callbacks"]
    assert (status.level, status.message) == (OK, "services and parameters are answered")
    status = statuses(overdue="/robot/node/reload_model for 3.0 s")["callbacks"]
    assert (status.level, status.message) == (WARN, "others may have to wait: /robot/node/reload_model for 3.0 s")


def test_other_nodes_of_the_same_name_are_warned_of():
    status = statuses()["graph"]
    assert (status.level, status.message) == (OK, "no other node has this name")
    status = statuses(namesakes="2 nodes are called /robot/node")["graph"]
    assert (status.level, status.message) == (WARN, "2 nodes are called /robot/node")


@pytest.mark.parametrize(
    ("problem", "is_broken", "level", "text"),
    [
        ("", False, OK, "7 kept"),
        ("disk full", False, WARN, "disk full"),
        ("stopped by a defect", True, ERROR, "stopped by a defect"),
    ],
)
def test_recorder_has_a_status_of_its_own(problem: str, is_broken: bool, level: bytes, text: str):
    report = dataclasses.replace(RECORDED, problem=problem, is_broken=is_broken)
    status = statuses(model=model(recorder=SimpleNamespace(report=lambda: report)))["recorder"]
    assert (status.level, status.message) == (level, text)
    assert values(status)["recorder folder (MB)"] == "2.5 of 10.0"


BOXED = BlackBoxReport("", 2, Path("box/bag"), 4.0, 10.0, False, 10**6, 0, 3, 0, 2_500_000, 10**7, "", False)


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, OK, "2 saved"),
        ({"recording": "now"}, OK, "recording now"),
        ({"is_cut": True}, WARN, "memory has room for 4.0 of 10 s; raise black_box_memory_mb"),
        ({"problem": "box: disk full; free some space"}, WARN, "box: disk full; free some space"),
        ({"problem": "stopped by a defect (x)", "is_broken": True}, ERROR, "stopped by a defect (x)"),
    ],
)
def test_black_box_has_a_status_of_its_own(changes: dict[str, Any], level: bytes, text: str):
    status = statuses(black_box=dataclasses.replace(BOXED, **changes))["black box"]
    assert (status.level, status.message) == (level, text)
    found = values(status)
    assert (found["folder (MB)"], found["latest"]) == ("2.5 of 10.0", "box/bag")
    assert (found["seconds in memory"], found["messages missed"]) == ("4.0 of 10", "3")


@pytest.mark.parametrize(
    ("problem", "level", "text"),
    [
        ("", OK, "9 published, 3 overtaken by newer frames"),
        ("score map: at one frame for 12 s", WARN, "score map: at one frame for 12 s"),
    ],
)
def test_viewers_have_a_status_of_their_own(problem: str, level: bytes, text: str):
    counts = {"overlay": {"published": 7, "overtaken": 1}, "score map": {"published": 2, "overtaken": 2}}
    status = statuses(viewers=ViewersReport(counts, problem))["viewers"]
    assert (status.level, status.message) == (level, text)
    assert values(status) == {
        "overlay: published": "7",
        "overlay: overtaken": "1",
        "score map: published": "2",
        "score map: overtaken": "2",
    }
