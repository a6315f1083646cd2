"""Owns: what the doctor says of each middleware. Oracle: files and a socket of the test; none of them need be there.

Leaves to others: what a node does with a middleware (test_latest_subscription, test_transport).
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from doctor_parts import PROFILE, lines, only

from cnn_perception.doctor import middleware
from cnn_perception.doctor.machine import check_environment

FAST_DDS, CYCLONE, ZENOH = "rmw_fastrtps_cpp", "rmw_cyclonedds_cpp", "rmw_zenoh_cpp"


def profile(path: Path, segment: str, *, kind: str = "SHM", default: str = "true", used: str = "shm") -> Path:
    path.write_text(
        f"""<?xml version="1.0"?><dds xmlns="http://www.eprosima.com"><profiles><transport_descriptors>
        <transport_descriptor><transport_id>shm</transport_id><type>{kind}</type>{segment}</transport_descriptor>
        <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
        </transport_descriptors><participant profile_name="p" is_default_profile="{default}"><rtps><userTransports>
        <transport_id>{used}</transport_id></userTransports></rtps></participant></profiles></dds>"""
    )
    return path


def test_segment_is_the_one_of_the_shared_memory_that_the_default_participant_uses(tmp_path: Path):
    size = "<segment_size>4000000</segment_size>"
    sizes = [
        middleware.shared_segment_bytes(one)
        for one in (
            PROFILE,
            profile(tmp_path / "a", size),
            profile(tmp_path / "b", ""),
            profile(tmp_path / "c", size, kind="UDPv4"),
            profile(tmp_path / "d", size, default="false"),
            profile(tmp_path / "e", size, used="udp"),
        )
    ]
    assert sizes == [64 * 2**20, 4_000_000, 2**19, 2**19, 2**19, 2**19]


def test_profile_must_be_there_be_xml_and_hold_an_image(tmp_path: Path):
    def said(path: object, frame_bytes: int = 921_600, **more: str) -> str:
        variables = {"FASTDDS_DEFAULT_PROFILES_FILE": str(path), "ROS_DISTRO": "kilted"} | more
        return lines(middleware.check_profile(variables, frame_bytes))

    (tmp_path / "text").write_text("no xml")
    assert "FAIL  Fast DDS profile: /nowhere.xml cannot be read (No such file or directory)" in said("/nowhere.xml")
    assert "cannot be read (Is a directory)" in said(tmp_path)
    assert "is no Fast DDS profile" in said(tmp_path / "text")
    assert "is no Fast DDS profile" in said(profile(tmp_path / "odd", "<segment_size>big</segment_size>"))
    small = said(profile(tmp_path / "small", ""))
    assert "shared memory of 512 KiB is smaller than one image of 900 KiB, so most images are lost" in small
    assert f"export FASTDDS_DEFAULT_PROFILES_FILE={PROFILE}" in small
    assert said(PROFILE).startswith(f"ok    Fast DDS profile: {PROFILE}: 64.0 MiB of shared memory")
    assert said(PROFILE, 2**27).startswith("FAIL")
    assert said(PROFILE, ROS_DISTRO="humble").startswith("warn  Fast DDS profile: none in this shell")
    assert "export FASTRTPS_DEFAULT_PROFILES_FILE=" in said(PROFILE, ROS_DISTRO="humble")


def test_shared_memory_must_hold_a_segment(tmp_path: Path):
    assert only(middleware.check_shared_memory(tmp_path, 1)).level == "ok"
    full = only(middleware.check_shared_memory(tmp_path, 2**60))
    assert (full.level, "--shm-size" in full.remedy) == ("FAIL", True)
    assert only(middleware.check_shared_memory(tmp_path / "no", 1)).text == "cannot be used (No such file or directory)"


def test_only_fast_dds_is_asked_for_its_profile():
    variables = {"FASTDDS_DEFAULT_PROFILES_FILE": "/nowhere.xml", "ROS_DISTRO": "kilted"}
    asked = [
        name
        for name in (FAST_DDS, "rmw_fastrtps_dynamic_cpp", CYCLONE, ZENOH, "rmw_connextdds")
        if "profile: /nowhere.xml" in lines(middleware.check_transport(variables | {"RMW_IMPLEMENTATION": name}))
    ]
    assert asked == [FAST_DDS, "rmw_fastrtps_dynamic_cpp"]
    assert "profile: /nowhere.xml" in lines(middleware.check_transport(variables))  # every distribution's default


@pytest.mark.parametrize(("kept", "level"), [("212992\n", "warn"), ("921599", "warn"), ("921600", "ok"), ("", "ok")])
def test_cyclone_dds_needs_room_for_an_image_that_arrives_by_udp(tmp_path: Path, kept: str, level: str):
    (tmp_path / "rmem_max").write_text(kept)
    found = only(middleware.check_receive_buffer(tmp_path / "rmem_max", 921_600))
    assert (found.level, "sysctl -w net.core.rmem_max" in found.remedy) == (level, level == "warn")


def test_zenoh_needs_a_router_unless_it_is_configured_otherwise():
    with socket.create_server(("localhost", 0)) as router:
        address = router.getsockname()[:2]
        assert only(middleware.check_zenoh_router({}, address)).level == "ok"
    gone = only(middleware.check_zenoh_router({}, address))
    assert (gone.level, gone.remedy[:37]) == ("FAIL", "ros2 run rmw_zenoh_cpp rmw_zenohd, or")
    elsewhere = only(middleware.check_zenoh_router({"ZENOH_SESSION_CONFIG_URI": "/mine.json5"}, address))
    assert (elsewhere.level, "ZENOH_SESSION_CONFIG_URI" in elsewhere.text) == ("ok", True)


def test_what_dds_alone_reads_is_not_said_to_matter_to_zenoh():
    variables = {"RMW_IMPLEMENTATION": ZENOH, "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "ROS_LOCALHOST_ONLY": "1"}
    said = lines(check_environment(variables))
    assert "Zenoh router: " in said
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in said
    assert "ROS_LOCALHOST_ONLY" not in said


def test_of_a_middleware_that_nobody_knows_here_it_is_said_that_nothing_is_known():
    found = only(middleware.check_transport({"RMW_IMPLEMENTATION": "rmw_of_nobody"}))
    assert (found.level, found.subject) == ("ok", "rmw_of_nobody")
    assert "only that of Fast DDS, Cyclone DDS, Zenoh" in found.text
