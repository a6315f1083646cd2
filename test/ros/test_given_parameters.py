"""Owns: which parameters given at start have no effect. Oracle: rcl itself, asked what a node was given.

Leaves to others: that the nodes say so (test_node_parameters, test_camera_node, test_follow_node).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from ros import new_domain

from cnn_perception.ros.given_parameters import given, matches, nearest, nodes_of_file, unused_of_command_line

NODES = ["/node", "/a/node", "/a/b/node"]
KEYS = ["/**", "/*", "**", "*", "/node", "node", "/a/node", "a/node", "/*/node", "/**/node", "/a/*", "/a/**", "/b/node"]
KEYS += ["/**/a/**", "/*/*", "a/**/node", "/nod", "/nodes"]


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(args=["program"], context=context, domain_id=new_domain())
    yield context
    rclpy.try_shutdown(context=context)


def has_got_it(context: Context, name: str, *arguments: str) -> bool:
    """Whether rcl gives a node of this name the parameter `a` of a command line."""
    namespace, _, base = name.rpartition("/")
    words = ["--ros-args", *arguments]
    node = Node(
        base,
        namespace=namespace,
        context=context,
        cli_args=words,
        start_parameter_services=False,
        enable_rosout=False,
    )
    try:
        return "a" in given(node)
    finally:
        node.destroy_node()


@pytest.mark.parametrize("node_name", NODES)
@pytest.mark.parametrize("key", KEYS)
def test_a_name_of_a_file_means_the_nodes_that_rcl_gives_its_parameters(
    context: Context, key: str, node_name: str, tmp_path: Path
):
    path = tmp_path / "file.yaml"
    path.write_text(f'"{key}": {{ros__parameters: {{a: 1}}}}')
    expected = has_got_it(context, node_name, "--params-file", str(path))
    assert matches(key, node_name) == expected
    assert any(matches(name, node_name) for name in nodes_of_file(path)) == expected
    argv = ["program", "--ros-args", "--params-file", str(path)]
    assert bool(list(unused_of_command_line(node_name, argv))) != expected


@pytest.mark.parametrize("node_name", NODES)
@pytest.mark.parametrize("rule", ["a:=1", "node:a:=1", "nodes:a:=1"])
def test_a_parameter_of_a_command_line_is_for_the_nodes_that_rcl_gives_it(context: Context, rule: str, node_name: str):
    expected = has_got_it(context, node_name, "-p", rule)
    lines = list(unused_of_command_line(node_name, ["program", "--ros-args", "-p", rule]))
    assert bool(lines) != expected


def test_names_of_nodes_may_be_nested_and_other_files_have_none(tmp_path: Path):
    path = tmp_path / "file.yaml"
    path.write_text("a: {b: {node: {ros__parameters: {x: 1}}}, node: {ros__parameters: {y: {z: 1}}}}\n/c: {}\n")
    assert nodes_of_file(path) == ["/a/b/node", "/a/node"]
    path.write_text("a: {ros__parameters: {x: !!bool y, z: !!timestamp y}}")
    assert nodes_of_file(path) == ["/a"]
    for text in ("", "- 1", "a: [", "a: {ros__parameters"):
        path.write_text(text)
        assert nodes_of_file(path) == []
    path.write_bytes(b"\xff\xfe")
    assert nodes_of_file(path) == []
    assert nodes_of_file(tmp_path / "missing.yaml") == []


def test_what_stands_between_ros_args_and_its_end_is_looked_at_and_the_rest_is_without_effect():
    words = ["program", "-p", "other:a:=1", "--ros-args", "-p", "other:b:=1", "--", "-p", "other:c:=1", "--ros-args"]
    words += ["--param", "other:d:=1"]
    lines = list(unused_of_command_line("/node", words))
    assert [line.partition(";")[0].partition(":=1:")[0] for line in lines] == [
        "words without effect: -p other:a:=1 -p other:c:=1",
        "-p other:b",
        "-p other:d",
    ]


@pytest.mark.parametrize(
    ("written", "meant"), [("treshold", "threshold"), ("frnt.rate", "front.rate"), ("zzz", None), ("", None)]
)
def test_the_most_similar_name_is_offered_and_none_where_none_is_similar(written: str, meant: str | None):
    known = ["threshold", "front.rate", "rear.rate"]
    assert nearest(written, known) == (f" ({meant}?)" if meant else "")


def test_every_key_of_this_table_is_right_for_some_node_and_wrong_for_another():
    """Else the comparison with rcl would say little."""
    found = {(key, matches(key, name)) for key, name in itertools.product(KEYS, NODES)}
    assert sum(is_match for _, is_match in found) >= 12
    assert sum(not is_match for _, is_match in found) >= 12
