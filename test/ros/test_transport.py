"""Owns: what a process is given for its middleware, and what is said where images are lost. No middleware is loaded.

Leaves to others: what a node does without the variables (test_node_health), the size (test_doctor_middleware).
"""

from __future__ import annotations

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
