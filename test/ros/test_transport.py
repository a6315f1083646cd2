"""Owns: what a process is given for its middleware, and what is said where images are lost. No middleware is loaded.

Leaves to others: what a node does without the variables (test_node_health), the size (test_doctor_middleware).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnn_perception.ros import transport

PROFILE = "launch/fastdds.xml"


@pytest.mark.parametrize(
    ("name", "has_profile"),
    [
        ("", True),
        ("rmw_fastrtps_cpp", True),
        ("rmw_fastrtps_dynamic_cpp", True),
        ("rmw_cyclonedds_cpp", False),
        ("rmw_zenoh_cpp", False),
        ("rmw_of_nobody", False),
    ],
)
def test_a_process_gets_the_profile_of_fast_dds_if_it_is_chosen_and_mallocs_settings_anyway(
    monkeypatch: pytest.MonkeyPatch, name: str, has_profile: bool
):
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("RMW_IMPLEMENTATION", name)
    given = transport.environment()
    assert any(value.endswith(PROFILE) for value in given.values()) == has_profile
    assert given["MALLOC_ARENA_MAX"] == "1"


NEW, OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize(
    ("distribution", "wheels", "expected"),
    [
        ("jazzy", (), OLD),
        ("humble", (), OLD),
        ("kilted", (), NEW),
        ("lyrical", (), NEW),
        ("", (), NEW),
        ("", ("ros-fastdds",), NEW),  # Kilted's wheels, which set no variable
        ("", ("ros-fastrtps",), OLD),  # Jazzy's
        ("kilted", ("ros-fastrtps",), NEW),  # what is sourced is used
    ],
)
def test_the_profile_is_given_in_the_variable_that_the_version_of_fast_dds_reads(
    monkeypatch: pytest.MonkeyPatch, distribution: str, wheels: tuple[str, ...], expected: str
):
    """Strings in the libraries: version 2.14 of Jazzy has the old name alone, 3.2 of Kilted both."""

    def version(name: str) -> str:
        if name not in wheels:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(transport, "name_in_use", lambda: "rmw_fastrtps_cpp")
    for name in (NEW, OLD, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_DISTRO", distribution)
    assert [name for name in transport.environment() if name in (NEW, OLD)] == [expected]
    assert f"{PROFILE} ({expected})" in transport.remedy_of_loss(is_reliable=False)
    other = OLD if expected == NEW else NEW
    monkeypatch.setenv(other, "/of/the/user.xml")
    is_read = expected == NEW  # version 3 reads both names
    assert (expected in transport.environment()) != is_read
    monkeypatch.setenv(expected, "/of/the/user.xml")
    assert expected not in transport.environment()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rmw_fastrtps_cpp", "give the camera's process the DDS profile launch/fastdds.xml"),
        ("rmw_cyclonedds_cpp", "sysctl -w net.core.rmem_max"),
        ("rmw_zenoh_cpp", "ZENOH_SESSION_CONFIG_URI"),
        ("rmw_of_nobody", "the documentation of rmw_of_nobody"),
    ],
)
@pytest.mark.parametrize(
    ("is_reliable", "is_overridden", "first_way"),
    [
        (False, False, "have it publish reliable, or "),
        (True, False, "have it keep more, or "),
        (False, True, "leave them out, or "),
    ],
)
def test_the_second_way_out_of_losses_is_the_middlewares(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str, is_reliable: bool, is_overridden: bool, first_way: str
):
    monkeypatch.setattr(transport, "name_in_use", lambda: name)
    text = transport.remedy_of_loss(is_reliable, is_overridden)
    assert first_way in text
    assert remedy in text
    assert (PROFILE in text) == (name == "rmw_fastrtps_cpp")


def test_the_name_in_use_is_that_of_the_library_which_is_loaded():
    pytest.importorskip("rclpy", reason="needs ROS 2")
    assert transport.name_in_use().startswith("rmw_")


OLD_S = time.time() - 60


def segment(folder: Path, number: int, made_s: float = OLD_S, name: str = "fastdds_{:016x}") -> set[str]:
    """What Fast DDS makes for a participant; returns the names."""
    names = {name.format(number), f"{name.format(number)}_el"}
    for one in names:
        (folder / one).write_bytes(b"images")
        os.utime(folder / one, (made_s, made_s))
    return names


def test_shared_memory_of_ended_processes_is_removed_and_no_other(tmp_path: Path):
    stale = segment(tmp_path, 1) | segment(tmp_path, 2) | segment(tmp_path, 8, name="fastrtps_{:016x}")
    (tmp_path / "fastdds_0000000000000002").unlink()  # killed before it had made it
    used = segment(tmp_path, 3)
    starting = segment(tmp_path, 4, time.time())
    others = segment(tmp_path, 7411, name="fastdds_port{}") | segment(tmp_path, 5, name="of_somebody_{:016x}")
    os.mkfifo(tmp_path / "fastdds_0000000000000006_el")
    (tmp_path / "fastdds_0000000000000007_el").symlink_to(tmp_path / "fastdds_0000000000000001_el")
    kept = used | starting | others | {"fastdds_0000000000000006_el", "fastdds_0000000000000007_el"}
    os.utime(tmp_path / "fastdds_0000000000000006_el", (OLD_S, OLD_S))

    with (tmp_path / "fastdds_0000000000000003_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        removed = transport.remove_leftovers(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == kept
    assert set(removed) == {name for name in stale if not name.endswith("_el")}


def test_where_there_is_no_shared_memory_nothing_is_removed(tmp_path: Path):
    assert transport.remove_leftovers(tmp_path / "nowhere") == []


OWN, OTHER = [*range(12), 0, 0, 1, 4], [*range(1, 13), 0, 0, 2, 3]


@pytest.mark.parametrize(
    ("known", "waits_s"),
    [
        (lambda now_s: [OWN], (0.0, 0.2)),
        (lambda now_s: [OWN, OTHER] if now_s < 0.3 else [OWN], (0.3, 0.6)),
        (lambda now_s: [OWN, OTHER], (0.6, 0.9)),  # it was killed: nobody has said that it is gone
    ],
)
def test_a_participant_is_left_when_it_is_alone_and_nothing_more_is_told_of_the_others(
    monkeypatch: pytest.MonkeyPatch, known: Callable[[float], list[list[int]]], waits_s: tuple[float, float]
):
    told: list[tuple[float, list[list[int]]]] = []
    clock = SimpleNamespace(now_s=0.0, monotonic=lambda: clock.now_s)
    clock.sleep = lambda s: setattr(clock, "now_s", clock.now_s + s)
    monkeypatch.setattr(transport, "time", clock)
    monkeypatch.setattr(transport, "name_in_use", lambda: "rmw_fastrtps_cpp")

    def ends(topic: str, no_mangle: bool) -> list[SimpleNamespace]:
        told.append((clock.now_s, known(clock.now_s)))
        return [SimpleNamespace(endpoint_gid=gid) for gid in told[-1][1]]

    node: Any = SimpleNamespace(
        get_topic_names_and_types=lambda no_demangle: [("rq/node/get_parametersRequest", ["a type"])],
        get_publishers_info_by_topic=lambda topic, no_mangle: [SimpleNamespace(endpoint_gid=OWN)],
        get_subscriptions_info_by_topic=ends,
    )
    transport.let_ended_nodes_go(node)
    assert waits_s[0] <= clock.now_s <= waits_s[1]
    assert clock.now_s > told[-1][0]  # a while after the last news
