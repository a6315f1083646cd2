"""Owns: how the shipped file groups diagnostics, by diagnostic_aggregator's own rules, against what real nodes publish.

Source of the rules: diagnostic_aggregator 4, aggregator.cpp, analyzer_group.cpp, generic_analyzer.cpp, status_item.hpp.
The fields of a GenericAnalyzer are alternatives, each name goes to every analyzer that matches, to Other if none does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT
from tiny_model import write_tiny_model

GENERIC = "diagnostic_aggregator/GenericAnalyzer"
GROUP = "diagnostic_aggregator/AnalyzerGroup"
FIELDS = {"type", "path", "regex", "startswith", "contains", "expected", "remove_prefix", "timeout"}
PERCEPTION = "/Robot/Perception"
OK, WARN, ERROR, STALE = range(4)  # of diagnostic_msgs/DiagnosticStatus


def groups() -> dict[str, Any]:
    parameters = yaml.safe_load((ROOT / "launch" / "diagnostics.yaml").read_text())["analyzers"]["ros__parameters"]
    return dict(analyzers(parameters, f"/{parameters['path']}"))


def analyzers(parameters: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each GenericAnalyzer with its path."""
    for one in (value for value in parameters.values() if isinstance(value, dict)):
        place = f"{path}/{one['path']}"
        if one["type"] == GROUP:
            yield from analyzers(one["analyzers"], place)
        else:
            assert one["type"] == GENERIC
            assert one.keys() <= FIELDS
            yield place, one


def matches(analyzer: Mapping[str, Any], name: str) -> bool:
    return (
        any(re.fullmatch(pattern, name) for pattern in analyzer.get("regex", []))
        or name in analyzer.get("expected", [])
        or name.startswith(tuple(analyzer.get("startswith", [])))
        or any(part in name for part in analyzer.get("contains", []))
    )


def shown(path: str, analyzer: Mapping[str, Any], name: str) -> str:
    """The name on /diagnostics_agg: slashes are spaces, and a prefix goes, unless the path has spaces."""
    name = name.replace("/", " ")
    for prefix in analyzer.get("remove_prefix", []):
        assert " " not in path
        name = name.removeprefix(prefix.replace("/", " "))
    return f"{path}/{name}"


def aggregated(names: Sequence[str]) -> dict[str, list[str]]:
    """Where each status is shown."""
    found: dict[str, list[str]] = {}
    for name in names:
        places = [shown(path, one, name) for path, one in groups().items() if matches(one, name)]
        found[name] = places or [f"/Robot/Other/{name.replace('/', ' ')}"]
    return found


def rolled_up(statuses: Mapping[str, int]) -> dict[str, int]:
    """The level of each group with a status in it: STALE where all are, ERROR where some are, else the highest."""
    found: dict[str, list[int]] = {}
    for name, places in aggregated(list(statuses)).items():
        for place in places:
            found.setdefault(place.rpartition("/")[0], []).append(statuses[name])
    return {group: worst(levels) for group, levels in found.items()}


def worst(levels: Sequence[int]) -> int:
    return STALE if set(levels) == {STALE} else min(max(levels), ERROR)


def test_every_status_that_a_node_publishes_is_in_exactly_one_group(tmp_path: Path):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from diagnostic_msgs.msg import DiagnosticArray
    from ros import new_domain, participant, running

    model = write_tiny_model(tmp_path / "tiny.onnx")
    domain = new_domain()
    (tmp_path / "kept").mkdir()
    given = {"cameras": "[front, rear]", "shadow_model": model, "record_folder": tmp_path / "kept"}
    given |= {"black_box_dir": tmp_path / "box", "front.rois_topic": "boxes"}
    arguments = ("-r", "__ns:=/robot")
    log = tmp_path / "log"
    with running("perception_node", domain, log, *arguments, model=model, **given), participant(domain) as ros:
        arrays = ros.collect(DiagnosticArray, "/diagnostics")
        ros.wait_for(lambda: arrays and len(arrays[-1].status) >= 10, "all statuses")
    names = [status.name for status in arrays[-1].status]

    found = aggregated(names)
    node = "robot perception_node"
    assert {name: places for name, places in found.items() if len(places) != 1} == {}
    assert {place for (place,) in found.values()} >= {
        f"{PERCEPTION}/Cameras/{node}: camera front",
        f"{PERCEPTION}/Cameras/{node}: camera rear",
        f"{PERCEPTION}/Cameras/{node}: rois front",
        f"{PERCEPTION}/Models/{node}: model",
        f"{PERCEPTION}/Models/{node}: shadow",
        f"{PERCEPTION}/Nodes/{node}: callbacks",
        f"{PERCEPTION}/Nodes/{node}: recorder",
        f"{PERCEPTION}/Nodes/{node}: black box",
    }
    assert all(place.startswith(f"{PERCEPTION}/") for (place,) in found.values())
    assert {status.hardware_id for status in arrays[-1].status} == {"/robot/perception_node"}


def test_robot_whose_node_rests_on_purpose_is_not_red_and_one_whose_node_was_refused_is(tmp_path: Path):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from diagnostic_msgs.msg import DiagnosticArray
    from lifecycle_msgs.msg import Transition
    from perception import transition
    from ros import new_domain, participant, running

    domain = new_domain()
    model = tmp_path / "tiny.onnx"
    arrays: list[DiagnosticArray]

    def groups_now() -> dict[str, int]:
        arrays.clear()
        ros.wait_for(lambda: len(arrays) >= 2, "diagnostics of now")
        return rolled_up({status.name: status.level[0] for status in arrays[-1].status})

    given = {"model": model, "autostart": False, "diagnostics_period_s": 0.05}
    with running("perception_node", domain, tmp_path / "log", **given), participant(domain) as ros:
        arrays = ros.collect(DiagnosticArray, "/diagnostics")
        assert set(groups_now().values()) == {OK}
        assert not transition(ros, Transition.TRANSITION_CONFIGURE)
        assert groups_now()[f"{PERCEPTION}/Models"] == ERROR
        write_tiny_model(model)
        assert transition(ros, Transition.TRANSITION_CONFIGURE)
        assert set(groups_now().values()) == {OK}
        assert transition(ros, Transition.TRANSITION_ACTIVATE)
        assert transition(ros, Transition.TRANSITION_DEACTIVATE)
        assert set(groups_now().values()) == {OK}
        assert transition(ros, Transition.TRANSITION_CLEANUP)
        assert set(groups_now().values()) == {OK}
    assert worst([OK, STALE]) == ERROR


def test_only_camera_of_a_node_of_any_name_with_the_word_is_a_camera():
    for name in ("/perception_node: camera", "/front_perception: camera", "/perception/left: camera"):
        assert aggregated([name])[name][0].startswith(f"{PERCEPTION}/Cameras/")


@pytest.mark.parametrize(
    "name",
    ["usb_cam: camera", "lifecycle_manager_navigation: Nav2 Health", "/perception_node: cameras", "camera: model"],
)
def test_what_others_publish_is_left_to_them(name: str):
    assert aggregated([name])[name] == [f"/Robot/Other/{name.replace('/', ' ')}"]


def test_nothing_is_stale_between_two_messages_of_a_node_with_the_default_period():
    from cnn_perception.perception_node.settings import Settings

    period_s = Settings.__dataclass_fields__["diagnostics_period_s"].default
    assert all(one["timeout"] > 2 * period_s for one in groups().values())
