"""Owns: the names of classes, and the colours, that a file of weights says itself, and what an export makes of them.

Leaves to others: the names in the metadata of ONNX files (test_adopted_names), the weights (test_foreign_weights).
"""

from __future__ import annotations

import argparse

import pytest
import torch
from torchvision import models

from cnn_perception import errors
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training import export, inspect, torch_files
from training.class_names import of_networks
from training.class_names.of_networks import MOST_CLASSES

CPU = SessionOptions(providers=("CPUExecutionProvider",))
torch.manual_seed(0)
STATE = models.squeezenet1_1(num_classes=3).state_dict()
NAMES = ("zebra", "ant", "cat")
"""In the order of the outputs; no alphabet has it."""
CARRIED = {
    "class_to_idx": {"class_to_idx": {"zebra": 0, "cat": 2, "ant": 1}},
    "classes": {"classes": ["zebra", "ant", "cat"]},
    "class_names": {"meta": {"class_names": ("zebra", "ant", "cat")}},
    "names": {"names": {0: "zebra", 1: "ant", 2: "cat"}},
    "idx_to_class": {"args": argparse.Namespace(idx_to_class={"0": "zebra", "2": "cat", "1": "ant"})},
    "id2label": {"hparams": {"id2label": {1: "zebra", 2: "ant", 3: "cat"}}},
    "label2id": {"cfg": {"model": {"label2id": {"ant": 2, "zebra": 1, "cat": 3}}}},
    "CLASSES": {"meta": {"CLASSES": ("zebra", "ant", "cat")}},
}


def exported(folder, content, *options):
    """The exit code of an export of these weights."""
    torch.save(content, folder / "w.pth")
    given = ("--backbone", "squeezenet1_1", "--weights", str(folder / "w.pth"), "--size", "64", "64", *options)
    return export.main([*given, "--output", str(folder / "m.onnx")])


def names_file(folder, *names):
    (folder / "names.txt").write_text("\n".join(names))
    return "--classes", str(folder / "names.txt")


@pytest.mark.parametrize("content", CARRIED.values(), ids=CARRIED)
def test_names_that_a_checkpoint_carries_are_read_in_the_order_of_its_outputs(tmp_path, content):
    torch.save({"state_dict": STATE, **content}, tmp_path / "w.pth")

    assert of_networks.carried(torch_files.read_tensors(tmp_path / "w.pth")).names == NAMES


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ({"class_to_idx": {"0": 1, "1": 0}}, ("1", "0")),
        ({"label2id": {"0": "1", "1": "0", "2": "2"}}, ("1", "0", "2")),
        ({"id2label": {"0": "2", "1": "0", "2": "1"}}, ("2", "0", "1")),
        ({"names": "0,1,2"}, ("0", "1", "2")),
        ({"names": "tench, Tinca tinca\ngoldfish, Carassius auratus\n"}, (
            "tench, Tinca tinca", "goldfish, Carassius auratus")),
    ],
    ids=["digits by name", "digits as texts by name", "digits by number", "a text of digits", "commas in lines"],
)  # fmt: skip
def test_digits_and_commas_in_names_are_read_by_what_the_key_means(content, read):
    assert of_networks.carried(content).names == read


@pytest.mark.parametrize(
    "value",
    [{"a": 0, "b": 2}, {"a": 2, "b": 3}, {"a": 0, "b": 0}, ["a", 1], "imagenet", "[a, b", {0: "a\x1b", 1: "b"}],
    ids=["a gap", "from 2 on", "twice", "mixed", "one word", "cut off", "an escape"],
)  # fmt: skip
def test_a_known_key_under_which_no_names_can_be_read_is_said(value):
    found = of_networks.carried({"classes": value})

    assert (found.names, found.unread) == ((), ("classes",))
    assert "'classes' cannot be read as names of classes" in found.remarks(NAMES)[0]


@pytest.mark.parametrize("value", [3, None, [], True, torch.ones(3)], ids=["number", "none", "empty", "yes", "tensor"])
def test_what_is_no_text_list_or_mapping_says_nothing_of_classes(value):
    assert of_networks.carried({"classes": value}) == of_networks.NOTHING_CARRIED


def test_a_dictionary_that_holds_itself_is_read_once():
    settings = {"classes": ["a", "b"]}
    settings["whole"] = settings

    assert of_networks.carried({"args": settings}).lists == {"args.classes": ("a", "b")}


@pytest.mark.parametrize("content", [CARRIED["class_to_idx"], CARRIED["classes"], CARRIED["id2label"]])
def test_the_same_names_in_another_order_than_the_checkpoints_own_are_refused(tmp_path, capsys, content):
    given = names_file(tmp_path, "Ant", "Cat", "Zebra")

    assert exported(tmp_path, {"state_dict": STATE, **content}, *given) == errors.EXIT_BAD_INPUT

    said = capsys.readouterr().err
    assert "says itself that its class 0 is 'zebra'" in said
    assert "--classes says 'Ant'" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("options", [(), ("--classes", "3")], ids=["without --classes", "their number"])
def test_the_checkpoints_own_names_are_taken_and_said_where_no_others_are_given(tmp_path, capsys, options):
    assert exported(tmp_path, {"state_dict": STATE, **CARRIED["label2id"]}, *options) == errors.EXIT_OK

    assert OnnxModel(tmp_path / "m.onnx", CPU).spec.class_names == NAMES
    assert "are those of its 'cfg.model.label2id': zebra, ant, cat" in capsys.readouterr().out


def test_other_names_than_the_checkpoints_own_are_taken_and_said(tmp_path, capsys):
    given = names_file(tmp_path, "Zebra herd", "Ant hill", "Cat")

    assert exported(tmp_path, {"state_dict": STATE, **CARRIED["classes"]}, *given) == errors.EXIT_OK

    assert OnnxModel(tmp_path / "m.onnx", CPU).spec.class_names == ("Zebra herd", "Ant hill", "Cat")
    assert "names other classes: zebra, ant, cat" in capsys.readouterr().out


def test_a_checkpoint_that_names_its_classes_in_two_orders_needs_the_users(tmp_path, capsys):
    content = {"state_dict": STATE, **CARRIED["class_to_idx"], "classes": ["ant", "cat", "zebra"]}

    assert exported(tmp_path, content) == errors.EXIT_BAD_INPUT
    assert "contradicts itself: its class 0 is 'ant' by its 'classes', 'zebra' by its 'class_to_idx'" in (
        capsys.readouterr().err
    )
    assert exported(tmp_path, content, *names_file(tmp_path, *NAMES)) == errors.EXIT_OK
    assert OnnxModel(tmp_path / "m.onnx", CPU).spec.class_names == NAMES


SAID = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.1]}


@pytest.mark.parametrize(
    "content", [SAID, {"any": {"transform": SAID}}, {**SAID, "cfg": SAID}], ids=["beside the weights", "deep", "twice"]
)
def test_colours_are_found_wherever_a_checkpoint_says_them(tmp_path, capsys, content):
    assert exported(tmp_path, {"state_dict": STATE, **content}, "--classes", "3") == errors.EXIT_OK

    spec = OnnxModel(tmp_path / "m.onnx", CPU).spec.input
    assert (list(spec.mean), list(spec.std)) == (SAID["mean"], SAID["std"])
    assert "does not say how images were prepared" not in capsys.readouterr().out


def test_colours_that_a_checkpoint_says_differently_in_two_places_are_asked_for(tmp_path, capsys):
    content = {"state_dict": STATE, **SAID, "cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}}

    assert exported(tmp_path, content, "--classes", "3") == errors.EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "give --mean 0.5,0.4,0.3 --std 0.25,0.2,0.1 (its 'mean') or --mean 0.1,0.2,0.3" in said
    given = ("--mean", "0.1,0.2,0.3", "--std", "0.5")
    assert exported(tmp_path, content, "--classes", "3", *given) == errors.EXIT_OK
    assert "warning" not in capsys.readouterr().out


def test_buffers_called_mean_and_std_are_no_settings(tmp_path, capsys):
    content = {**STATE, "mean": torch.full((3,), 0.5), "std": torch.full((3,), 0.5)}

    exported(tmp_path, content, "--classes", "3")

    assert "--mean 0.5" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("count", [MOST_CLASSES + 1, 999_999_999_999])
def test_more_classes_than_a_network_can_have_are_refused_before_it_is_built(tmp_path, capsys, count):
    known = ("--backbone", "squeezenet1_1", "--classes", str(count))

    assert export.main([*known, "--output", str(tmp_path / "m.onnx")]) == errors.EXIT_BAD_INPUT
    assert inspect.main(known) == errors.EXIT_BAD_INPUT

    said = capsys.readouterr().err
    assert said.count(f"--classes {count}: at most {MOST_CLASSES} classes are possible") == 2
    assert said.count("\n") == 2
