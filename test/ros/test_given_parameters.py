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
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from ros import new_domain

from cnn_perception.errors import ConfigError
from cnn_perception.ros.given_parameters import (
    check_launch_arguments,
    file_of_argument,
    given,
    matches,
    nearest,
    nodes_of_file,
    refused_arguments,
    seconds_of_argument,
    unused_launch_arguments,
    unused_of_command_line,
)

NODES = ["/node", "/a/node", "/a/b/node"]
KEYS = ["/**", "/*", "**", "*", "/node", "node", "/a/node", "a/node", "/*/node", "/**/node", "/a/*", "/a/**", "/b/node"]
KEYS += ["/**/a/**", "/*/*", "a/**/node", "/nod", "/nodes"]
NAMES = [
    "cam",
    "/a/b_/_1",
    "_",
    "~/a",
    "cam/",
    "/a/",
    "a//b",
    "1a",
    "a/1b",
    "a b",
    "a__b",
    "",
    "/",
    "~",
    "~a",
    "{x",
    "{x}",
    "\u00e4",
]


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


RULES = [f"image_raw:={name}" for name in NAMES]
RULES += [f"{name}:=other" for name in NAMES]
RULES += [f"__node:={name}" for name in NAMES]
RULES += [f"__ns:={name}" for name in NAMES if name != "/a/"]  # of which rcl makes an error of every node
RULES += [f"{name}:image_raw:=other" for name in NAMES]
RULES += ["image_raw", "image_raw=cam", "", "rostopic://image_raw:=cam", "node:rosservice://image_raw:=cam"]


@pytest.mark.parametrize("rule", RULES)
def test_a_remapping_is_refused_in_one_line_where_rcl_refuses_it(rule: str):
    words = ["--ros-args", "-r", rule]
    context = Context()
    try:
        rclpy.init(args=["program", *words], context=context)
        is_taken = True
        rclpy.shutdown(context=context)
    except rclpy_implementation.RCLError:
        is_taken = False
    told = list(refused_arguments(["program", *words]))
    assert (told == []) == is_taken
    assert all(line.startswith(f"-r {rule}: ") for line in told)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["-r", "image_raw:=cam/"], "'cam/' is no name of a topic: write cam"),
        (["--remap", "image_raw:=/a//b/"], "'/a//b/' is no name of a topic: write /a/b"),
        (["-r", "image_raw:= cam "], "' cam ' is no name of a topic: write cam"),
        (["-r", "node:image_raw:=1cam"], "'1cam' is no name of a topic: it has letters, digits and _"),
        (["-r", "/image_raw/:=cam"], "'/image_raw/' is no name of a topic: write /image_raw"),
        (["-r", "__ns:=robot1"], "'robot1' is no name of a namespace: write /robot1"),
        (["-r", "__ns:=/a/"], "'/a/' is no name of a namespace: write /a"),
        (["-r", "__node:=a/b"], "'a/b' is no name of a node: it has"),
        (["-r", "a b:image_raw:=cam"], "'a b' is no name of a node: it has"),
        (["-r", "image_raw=cam"], "NAME:=OTHER_NAME; did you mean image_raw:=cam?"),
        (["-p", "model=a.onnx"], "NAME:=VALUE; did you mean model:=a.onnx?"),
        (["-p", "model"], "a parameter is written NAME:=VALUE"),
    ],
)
def test_what_is_to_be_written_in_place_of_a_refused_argument_is_said(words: list[str], meant: str):
    (line,) = refused_arguments(["program", "--ros-args", *words])
    assert line.startswith(f"{words[0]} {words[1]}: ")
    assert meant in line
    assert list(refused_arguments(["program", *words])) == []  # of the program, not of ROS


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
    ("words", "told"),
    [
        (["launch", "cnn_perception", "one.launch.py", "modle:=a", "image:=b"], "modle (model?)"),
        (["launch", "cnn_perception", "one.launch.py", "image_topic:=a", "zzz:=:="], "image_topic (image?), zzz"),
        (["launch", "cnn_perception", "one.launch.py", "image_dellay:=1"], "image_dellay (image_delay?)"),
        (["launch", "cnn_perception", "one.launch.py", "image_delay_max:=1"], "image_delay_max (image_delay?)"),
        (["launch", "{folder}/one.launch.py", "modle:=a"], "modle (model?)"),
        (["launch", "{folder}/../{name}/one.launch.py", "modle:=a"], "modle (model?)"),
        (["launch", "cnn_perception", "one.launch.py", "model:=a", "--debug"], None),
        # Another launch file includes this one, perhaps one of the same name: the arguments are that one's.
        (["launch", "cnn_perception", "another.launch.py", "modle:=a"], None),
        (["launch", "robot", "one.launch.py", "modle:=a"], None),
        (["launch", "/robot/one.launch.py", "modle:=a"], None),
    ],
)
def test_what_a_launch_file_does_not_take_is_named_where_it_was_launched_itself(
    words: list[str], told: str | None, tmp_path: Path
):
    file = tmp_path / "one.launch.py"
    argv = [word.format(folder=tmp_path, name=tmp_path.name) for word in words]
    line = unused_launch_arguments(argv, file, ["rois_topic", "model", "image", "image_delay"])
    expected = f"launch arguments without effect, because they are unknown: {told}; --show-args names all"
    assert line == (expected if told else "")


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        (int, "abc", "a whole number"),
        (int, "1.5", "a whole number"),
        (float, "fast", "a number"),
        (bool, "maybe", "true or false"),
        (bool, "2", "true or false"),
        (bool, "tRUE", "true or false"),
        (bool, "a: b: c", "true or false"),
    ],
)
def test_launch_argument_that_cannot_be_what_it_is_for_is_refused_by_name(kind: type, text: str, wanted: str):
    with pytest.raises(ConfigError, match=f"^argument x is '{text}', but {wanted} is wanted$"):
        check_launch_arguments({"y": "", "x": text}, {"x": kind, "y": kind})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "-3"),
        (float, "5"),
        (float, "0.5"),
        (bool, "True"),
        (bool, "false"),
        (bool, "1"),
        (bool, "NO"),
        (str, "7"),
        (int, ""),
    ],
)
def test_launch_argument_is_taken_as_launch_takes_it(kind: type, text: str):
    check_launch_arguments({"x": text}, {"x": kind})


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf"])
def test_delay_that_is_none_is_refused_by_name(text: str):
    assert seconds_of_argument("respawn_delay", "0.5") == 0.5
    with pytest.raises(ConfigError, match=f"^argument respawn_delay is '?{text}'?, but a number"):
        seconds_of_argument("respawn_delay", text)


def test_parameter_file_of_a_launch_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "robot.yaml").touch()
    assert file_of_argument("params_file", "~/robot.yaml") == str(tmp_path / "robot.yaml")
    for missing in (f"{tmp_path}/gone.yaml", str(tmp_path), ""):
        with pytest.raises(ConfigError, match=f"^argument params_file is '{missing}': there is no such file$"):
            file_of_argument("params_file", missing)


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
