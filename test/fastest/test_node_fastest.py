"""Owns: a live node that finds the fastest file of its model by itself, at start and at a swap.

Leaves to others: how it is found (test_trials). The files differ by so much work that no load of the machine hides it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_model import as_int8, tiny_spec, write_tiny_model

pytest.importorskip("rclpy", reason="needs ROS 2")

from perception import NODE, ask, camera_of, diagnosis, image, picture, set_parameter, value
from ros import new_domain, participant, running
from vision_msgs.msg import Classification

SIDE = 1200
"""3.5 GFLOP an image, some 50 ms of a core; the tiny network takes microseconds."""


def slowed(path: Path) -> Path:
    """Has the model multiply two large matrices for each image, and add 0 times the outcome to its logits."""
    model = onnx.load(path)
    graph = model.graph
    (gemm,) = (node for node in graph.node if node.op_type == "Gemm")
    gemm.output[0] = "quick_logits"
    graph.initializer.append(numpy_helper.from_array(np.array([SIDE, SIDE], np.int64), "shape"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    behind = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["matrix"]),
        helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["product_mean"], keepdims=0),
        helper.make_node("Mul", ["product_mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["quick_logits", "nothing"], ["logits"]),
    ]
    place = list(graph.node).index(gemm) + 1
    nodes = [*graph.node[:place], *behind, *graph.node[place:]]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)
    return path


def test_node_takes_the_fastest_file_says_so_and_does_it_again_when_the_model_is_changed(tmp_path: Path):
    first = slowed(write_tiny_model(tmp_path / "first.onnx"))
    write_tiny_model(tmp_path / "first_int8.onnx", spec=as_int8(tiny_spec()))
    second = write_tiny_model(tmp_path / "second.onnx", classes=("rouge", "vert", "bleu"))
    slowed(write_tiny_model(tmp_path / "second_int8.onnx", spec=as_int8(tiny_spec(("rouge", "vert", "bleu")))))
    settings = {"model": first, "providers": ["fastest", "cpu"], "cache_dir": tmp_path / "cache"}
    domain = new_domain()
    with (
        running("perception_node", domain, tmp_path / "log", diagnostics_period_s=0.05, **settings) as process,
        participant(domain) as ros,
    ):
        answers = ros.collect(Classification, f"{NODE}/classification")
        camera = camera_of(ros, answers)
        ask(ros, camera, image((1, 0), picture(0)), answers)
        status = diagnosis(ros, "model")
        assert value(status, "file") == str(tmp_path / "first_int8.onnx")
        assert value(status, "taken as the fastest").startswith("first_int8.onnx on CPUExecutionProvider ")
        assert "first.onnx on CPUExecutionProvider " in value(status, "taken as the fastest")
        assert "taken as the fastest: first_int8.onnx" in process.log

        assert set_parameter(ros, "model", str(second)).successful
        ask(ros, camera, image((2, 0), picture(0)), answers)
        assert answers[-1].results[0].class_id in ("rouge", "vert", "bleu")
        assert value(diagnosis(ros, "model"), "file") == str(second)
    assert len([*(tmp_path / "cache" / "fastest").iterdir()]) == 2


def test_a_swap_looks_for_the_fastest_once_where_it_cannot_be_kept(tmp_path: Path):
    first = write_tiny_model(tmp_path / "first.onnx")
    second = slowed(write_tiny_model(tmp_path / "second.onnx", classes=("rouge", "vert", "bleu")))
    write_tiny_model(tmp_path / "second_int8.onnx", spec=as_int8(tiny_spec(("rouge", "vert", "bleu"))))
    (tmp_path / "cache").write_text("a file where the folder should be")
    settings = {"model": first, "providers": ["fastest", "cpu"], "cache_dir": tmp_path / "cache"}
    domain = new_domain()
    with (
        running("perception_node", domain, tmp_path / "log", diagnostics_period_s=0.05, **settings) as process,
        participant(domain) as ros,
    ):
        answers = ros.collect(Classification, f"{NODE}/classification")
        ask(ros, camera_of(ros, answers), image((1, 0), picture(0)), answers)
        assert set_parameter(ros, "model", str(second)).successful
        ros.wait_for(lambda: "taken as the fastest: second_int8.onnx" in process.log, "the second model")
        assert f"trying which of 1 ways to run {first}" in process.log
        assert f"ways to run {second}" not in process.log  # the other process did
        assert process.log.count("it cannot be kept") == 2
        assert value(diagnosis(ros, "model"), "file") == str(tmp_path / "second_int8.onnx")
