"""Owns: the names of classes in the metadata of an ONNX file of others, in every form in which programs write them.

Leaves to others: names that do not fit the outputs (test_refused), names in checkpoints (test_carried_names).
"""

from __future__ import annotations

import foreign_graphs
import onnx
import pytest
from foreign_graphs import CLASSES, NORMALISED
from onnx import helper

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training.adopt.command import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))
OWN = ("cat", "eel", "ant", "dog", "bee")
"""Names of the five outputs, in their order."""
FORMS = {
    "names by number from 1": {"id2label": '{"1": "cat", "2": "eel", "3": "ant", "4": "dog", "5": "bee"}'},
    "numbers by name": {"class_to_idx": '{"ant": 2, "bee": 4, "cat": 0, "dog": 3, "eel": 1}'},
    "numbers by name from 1": {"label2id": "{'ant': 3, 'bee': 5, 'cat': 1, 'dog': 4, 'eel': 2}"},
    "commas": {"names": "cat, eel,ant,dog,bee"},
    "lines": {"classes": "cat\neel\nant\ndog\nbee\n"},
    "a list": {"labels": '["cat", "eel", "ant", "dog", "bee"]'},
    "settings": {"config": '{"data": {"id2label": {"0": "cat", "1": "eel", "2": "ant", "3": "dog", "4": "bee"}}}'},
}


def adopted(folder, texts, names=()):
    """The exit code of the adoption of a file with this metadata."""
    proto = foreign_graphs.as_nodes(foreign_graphs.network())
    helper.set_model_props(proto, texts)
    onnx.save(proto, folder / "foreign.onnx")
    (folder / "names.txt").write_text("\n".join(names))
    given = ("--classes", str(folder / "names.txt")) if names else ()
    model, output = str(folder / "foreign.onnx"), str(folder / "ours.onnx")
    return main(["--model", model, "--output", output, *NORMALISED, *given])


@pytest.mark.parametrize("texts", FORMS.values(), ids=FORMS)
def test_names_of_any_form_are_those_of_the_outputs(tmp_path, texts):
    assert adopted(tmp_path, texts) == EXIT_OK
    assert OnnxModel(tmp_path / "ours.onnx", CPU).spec.class_names == OWN


@pytest.mark.parametrize("texts", FORMS.values(), ids=FORMS)
def test_names_of_any_form_in_another_order_than_the_users_are_refused(tmp_path, capsys, texts):
    assert adopted(tmp_path, texts, CLASSES) == EXIT_BAD_INPUT
    assert "says itself that its class 0 is 'cat'" in capsys.readouterr().err


def test_names_that_cannot_be_read_are_said(tmp_path, capsys):
    assert adopted(tmp_path, {"names": "see labels.txt"}, CLASSES) == EXIT_OK
    assert "its own 'names' cannot be read as names of classes" in capsys.readouterr().out
