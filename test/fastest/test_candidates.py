"""Owns: which files count as one network, and on what they are tried. Leaves to others: the choice (test_trials)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tiny_model import TINY_INPUT, as_int8, tiny_spec, with_score_map, with_unknown, write_tiny_model

from cnn_perception.errors import ModelError
from cnn_perception.fastest.candidates import candidates_of, files_of
from cnn_perception.model.providers import CPU, CUDA, TENSORRT, SessionOptions

SPEC = tiny_spec()


def names(path: Path) -> list[str]:
    return [file.path.name for file in files_of(path)]


@pytest.mark.parametrize("given", ["m.onnx", "m_int8.onnx", "m_fp16.onnx"])
def test_three_precisions_of_one_network_are_found_from_any_of_them(tmp_path: Path, given: str):
    write_tiny_model(tmp_path / "m.onnx")
    for name in ("m_int8.onnx", "m_fp16.onnx", "m2.onnx", "m_int8_int8.onnx"):
        write_tiny_model(tmp_path / name, spec=as_int8(SPEC))
    assert names(tmp_path / given)[0] == given
    assert set(names(tmp_path / given)) == {"m.onnx", "m_int8.onnx", "m_fp16.onnx"}


OTHERS: dict[str, dict[str, Any]] = {
    "another training": {"training": dataclasses.replace(SPEC.training, metrics={"top1": 0.5})},
    "other data": {"training": dataclasses.replace(SPEC.training, data_sha256="ab")},
    "other names": {"class_names": ("red", "green", "violet")},
    "other order": {"class_names": ("blue", "green", "red")},
    "another size": {"input": dataclasses.replace(TINY_INPUT, height=48)},
    "other preprocessing": {"input": dataclasses.replace(TINY_INPUT, resize_mode="letterbox")},
    "another calibration": {"temperature": 2.0},
    "another task": {"task": "multilabel", "thresholds": (0.5, 0.5, 0.5)},
    "another network": {"architecture": "resnet18"},
    "an unknown rule": {"unknown": with_unknown(SPEC, 0.0).unknown},
    "a score map": {"score_map": with_score_map(SPEC).score_map},
}


@pytest.mark.parametrize("changed", OTHERS.values(), ids=OTHERS)
def test_what_differs_in_what_the_robot_gets_is_another_network(tmp_path: Path, changed: dict[str, Any]):
    write_tiny_model(tmp_path / "m.onnx")
    write_tiny_model(tmp_path / "m_int8.onnx", spec=dataclasses.replace(as_int8(SPEC), **changed))
    assert names(tmp_path / "m.onnx") == ["m.onnx"]


def test_unknown_rule_that_was_refitted_to_the_smaller_network_does_not_make_it_another(tmp_path: Path):
    write_tiny_model(tmp_path / "m.onnx", spec=with_unknown(SPEC, 0.1))
    write_tiny_model(tmp_path / "m_int8.onnx", spec=as_int8(with_unknown(SPEC, 0.2)))
    assert names(tmp_path / "m.onnx") == ["m.onnx", "m_int8.onnx"]


def test_what_lies_beside_it_and_is_no_model_is_passed_over(tmp_path: Path):
    write_tiny_model(tmp_path / "m.onnx")
    (tmp_path / "m_int8.onnx").write_bytes(b"no model")
    (tmp_path / "m_fp16.onnx").mkdir()
    assert names(tmp_path / "m.onnx") == ["m.onnx"]


def test_link_beside_it_is_not_followed_out_of_the_folder_and_a_link_to_it_finds_its_own(tmp_path: Path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_tiny_model(inside / "m.onnx")
    write_tiny_model(outside / "m_int8.onnx", spec=as_int8(SPEC))
    (inside / "m_int8.onnx").symlink_to(outside / "m_int8.onnx")
    assert names(inside / "m.onnx") == ["m.onnx"]

    write_tiny_model(inside / "m_fp16.onnx", spec=as_int8(SPEC))
    (outside / "current.onnx").symlink_to(inside / "m.onnx")
    assert names(outside / "current.onnx") == ["current.onnx", "m_fp16.onnx"]


def test_file_that_was_asked_for_must_be_a_model(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    write_tiny_model(tmp_path / "m_int8.onnx", spec=as_int8(SPEC))
    with pytest.raises(ModelError, match=r"m\.onnx: is no ONNX file"):
        files_of(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        (SessionOptions(["fastest"]), {CPU}),
        (SessionOptions(["fastest", "cuda"]), {CUDA, CPU}),
        (SessionOptions(["tensorrt", "fastest", "cuda"]), {TENSORRT, CUDA, CPU}),
        (SessionOptions(["fastest", "cuda"], require_gpu=True), {CUDA, CPU}),  # which is compared with
    ],
)
def test_every_file_is_tried_on_every_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: SessionOptions, tried: set[str]
):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [TENSORRT, CPU])
    write_tiny_model(tmp_path / "m.onnx")
    write_tiny_model(tmp_path / "m_int8.onnx", spec=as_int8(SPEC))
    found = candidates_of(tmp_path / "m.onnx", options)
    assert {(one.file.path.name, one.provider) for one in found} == {
        (name, provider) for name in ("m.onnx", "m_int8.onnx") for provider in tried
    }
    assert len(found) == 2 * len(tried)
