"""Owns: the model's description and its JSON. Leaves to others: the ONNX file around it (test_onnx_model)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from specs import INPUT, SPEC

from cnn_perception.errors import ModelError
from cnn_perception.model.spec import (
    ModelSpec,
)


def changed(*path_and_value: object) -> str:
    """The spec's JSON with the value at a path replaced."""
    *path, last, value = path_and_value
    document = json.loads(SPEC.to_json())
    target = document
    for key in path:
        target = target[key]
    target[last] = value
    return json.dumps(document)


def test_spec_survives_its_json():
    assert ModelSpec.from_json(SPEC.to_json()) == SPEC


def test_spec_without_activation_survives_its_json():
    without = dataclasses.replace(SPEC, activation=None)
    assert ModelSpec.from_json(without.to_json()) == without


def test_integers_are_accepted_where_numbers_are_wanted():
    assert ModelSpec.from_json(changed("temperature", 2)).temperature == 2.0


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ModelSpec) if f.name != "version"])
def test_missing_field_is_named(field: str):
    document = json.loads(SPEC.to_json())
    del document[field]
    with pytest.raises(ModelError, match=rf"missing fields \['{field}'\]"):
        ModelSpec.from_json(json.dumps(document))


def test_missing_nested_field_is_named():
    document = json.loads(SPEC.to_json())
    del document["input"]["mean"]
    with pytest.raises(ModelError, match=r"spec\.input: missing fields \['mean'\]"):
        ModelSpec.from_json(json.dumps(document))


def test_unknown_field_is_named():
    with pytest.raises(ModelError, match=r"unknown fields \['colour'\]"):
        ModelSpec.from_json(changed("input", "colour", "rgb"))


@pytest.mark.parametrize(
    ("path_and_value", "where"),
    [
        (("input", "height", "224"), "spec.input.height"),
        (("input", "height", 224.0), "spec.input.height"),
        (("input", "height", True), "spec.input.height"),
        (("input", "mean", [0.5, 0.5]), "spec.input.mean"),
        (("input", "resize_mode", "stretch"), "spec.input.resize_mode"),
        (("class_names", ["a", 1]), "spec.class_names"),
        (("task", "detection"), "spec.task"),
        (("activation", "stride", None), "spec.activation.stride"),
        (("training", "metrics", {"top1": "high"}), "spec.training.metrics.top1"),
    ],
)
def test_value_of_the_wrong_type_is_named(path_and_value: tuple[object, ...], where: str):
    with pytest.raises(ModelError, match=where.replace(".", r"\.")):
        ModelSpec.from_json(changed(*path_and_value))


@pytest.mark.parametrize(
    "path_and_value",
    [
        ("input", "height", 0),
        ("input", "width", 100_000),
        ("input", "crop_fraction", 0.0),
        ("input", "crop_fraction", 1.01),
        ("input", "std", [0.2, 0.0, 0.2]),
        ("class_names", ["one"]),
        ("class_names", ["same", "same"]),
        ("class_names", ["a", ""]),
        ("temperature", 0.0),
        ("units", ["m", "m", "m"]),
        ("thresholds", [0.5, 0.5, 0.5]),
        ("unknown", "false_alarm_rate", 1.0),
        ("unknown", "centres", []),
        ("unknown", "centres", [[1.0], [0.0, 1.0]]),
        ("activation", "rows", 0),
    ],
)
def test_value_out_of_range_is_refused(path_and_value: tuple[object, ...]):
    with pytest.raises(ModelError, match="out of range"):
        ModelSpec.from_json(changed(*path_and_value))


def test_crop_fraction_belongs_to_crop_only():
    with pytest.raises(ModelError, match="crop_fraction"):
        dataclasses.replace(INPUT, resize_mode="squash")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"x"'])
def test_text_that_is_no_spec_is_refused(text: str):
    with pytest.raises(ModelError, match="export the model again"):
        ModelSpec.from_json(text)


def test_spec_of_a_later_version_is_refused_by_number():
    with pytest.raises(ModelError, match="version 5, this package reads 3 to 4"):
        ModelSpec.from_json(changed("version", 5))


def of_version_3() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SPEC.to_json()) | {"version": 3}
    for record, fields in (
        ("parity", ("provider", "runtime", "outputs")),
        ("unknown", ("promised_rate", "known_images")),
    ):
        for field in fields:
            del document[record][field]
    return document


def test_spec_of_version_3_is_read_and_what_it_does_not_say_is_unknown():
    old = ModelSpec.from_json(json.dumps(of_version_3()))

    assert SPEC.unknown is not None
    assert old == dataclasses.replace(
        SPEC,
        parity=dataclasses.replace(SPEC.parity, provider="", runtime="", outputs=()),
        unknown=dataclasses.replace(SPEC.unknown, promised_rate=None, known_images=0),
    )
    assert ModelSpec.from_json(old.to_json()) == old
    assert old.parity.beyond("CUDAExecutionProvider") == ""


@pytest.mark.parametrize(("record", "field"), [("parity", "provider"), ("unknown", "known_images")])
def test_a_field_that_came_later_is_unknown_in_version_3_and_needed_in_version_4(record: str, field: str):
    early = of_version_3()
    early[record][field] = 1
    with pytest.raises(ModelError, match=rf"unknown fields \['{field}'\]"):
        ModelSpec.from_json(json.dumps(early))
    late = json.loads(SPEC.to_json())
    del late[record][field]
    with pytest.raises(ModelError, match=rf"missing fields \['{field}'\]"):
        ModelSpec.from_json(json.dumps(late))


@pytest.mark.parametrize("version", [3.0, True, "3", None, 2])
def test_a_version_that_is_none_of_these_is_refused(version: object):
    with pytest.raises(ModelError, match="this package reads 3 to 4"):
        ModelSpec.from_json(json.dumps(of_version_3() | {"version": version}))


def test_the_certificate_says_on_which_provider_it_was_measured_and_nothing_of_others():
    assert SPEC.parity.beyond("CPUExecutionProvider") == ""
    assert "on CPUExecutionProvider (ONNX Runtime 1.20), which says nothing of CUDA" in SPEC.parity.beyond("CUDA")


def test_a_certificate_whose_difference_exceeds_its_tolerance_is_refused():
    with pytest.raises(ModelError, match="difference of logits"):
        ModelSpec.from_json(changed("parity", "outputs", [{"output": "logits", "difference": 2.0, "tolerance": 1.0}]))


def test_regression_needs_a_unit_for_each_number():
    numbers = dataclasses.replace(
        SPEC, task="regression", class_names=("steering",), units=("rad",), unknown=None, statistics=None
    )
    assert ModelSpec.from_json(numbers.to_json()) == numbers
    with pytest.raises(ModelError, match="units"):
        dataclasses.replace(numbers, units=())


def test_multilabel_needs_a_threshold_in_0_to_1_for_each_class():
    several = dataclasses.replace(SPEC, task="multilabel", thresholds=(0.5, 0.25, 1.0), unknown=None)
    assert ModelSpec.from_json(several.to_json()) == several
    for wrong in ((0.5,), (0.5, 0.5, 1.1)):
        with pytest.raises(ModelError, match="thresholds"):
            dataclasses.replace(several, thresholds=wrong)


LONG = "1" + "0" * 400


@pytest.mark.parametrize(
    ("path_and_value", "written", "words"),
    [
        (("parity", "tolerance", "HERE"), "NaN", "NaN is no number"),
        (("temperature", "HERE"), "Infinity", "Infinity is no number"),
        (("input", "mean", ["HERE", 0, 0]), "-Infinity", "-Infinity is no number"),
        (("temperature", "HERE"), "1e999", "spec.temperature"),
        (("temperature", "HERE"), LONG, "spec.temperature"),
        (("training", "train_images", "HERE"), LONG, "spec.training.train_images"),
        (("version", "HERE"), LONG, "version 1000"),
        (("training", "metrics", {"top1": "HERE"}), LONG, "spec.training.metrics.top1"),
        (("input", "height", "HERE"), "1" * 10_000, "export the model again"),
        (("class_names", "HERE"), "[" * 100_000 + "]" * 100_000, "export the model again"),
        (("version", "HERE"), "[" * 500 + "]" * 500, "version"),
        (("class_names", "HERE"), "[" * 500 + "]" * 500, "spec.class_names"),
        (("class_names", ["HERE", "b", "c"]), r'"\ud800"', "spec.class_names[0]"),
        (("class_names", ["HERE", "b", "c"]), r'"a\u0000b"', "spec.class_names[0]"),
        (("training", "metrics", "HERE"), r'{"\udfff": 1}', "spec.training.metrics"),
        (("HERE", 1), r'"\ud800"', r"unknown fields ['\\ud800']"),
        (("task", "HERE"), r'"\ud800"', "spec.task"),
        (("temperature", "HERE"), '1, "temperature": 2', "'temperature' occurs twice"),
        (("input", "height", "HERE"), '32, "height": 64', "'height' occurs twice"),
    ],
)
def test_damaged_json_is_refused_in_a_short_line_that_can_be_printed(
    path_and_value: tuple[object, ...], written: str, words: str
):
    text = changed(*path_and_value).replace('"HERE"', written)
    assert written in text
    with pytest.raises(ModelError) as caught:
        ModelSpec.from_json(text)
    line = str(caught.value)
    assert words.replace("\\\\", "\\") in line
    assert "\n" not in line
    assert len(line.encode()) < 500


@pytest.mark.parametrize(
    "path_and_value",
    [
        ("parity", "images", -1),
        ("parity", "tolerance", -0.1),
        ("parity", "max_logit_difference", -1),
        ("parity", "top1_agreement", 1.5),
        ("training", "val_images", -1),
        ("unknown", "auroc", 2),
        ("unknown", "outside_images", -1),
        ("precision", "images", -1),
    ],
)
def test_records_of_the_export_have_ranges_too(path_and_value: tuple[object, ...]):
    with pytest.raises(ModelError, match="out of range"):
        ModelSpec.from_json(changed(*path_and_value))


def test_class_names_of_any_script_are_text():
    names = ["grün", "绿", "🐝"]
    assert ModelSpec.from_json(changed("class_names", names)).class_names == tuple(names)


SUBSTITUTES = ("", '"', "9", "\0", "\ud800")
"""What takes the place of each character of a description in turn."""
VALUES = (
    None,
    True,
    -1,
    0,
    2**63,
    1e300,
    "",
    "a\0b",
    "\udfff",
    "../../x",
    "<script>",
    [],
    [[]],
    {},
    {"a": {}},
    ["a"] * 3,
)
"""What takes the place of each of its fields in turn."""


def is_whole(text: str) -> bool:
    """Whether a description is refused in one printable line, or is one that can be written and read again."""
    try:
        found = ModelSpec.from_json(text)
    except ModelError as error:
        line = str(error)
        return "\n" not in line and len(line.encode()) < 1000
    return ModelSpec.from_json(found.to_json()) == found


def test_every_damaged_character_leaves_a_whole_description_or_none():
    text = SPEC.to_json()
    for place in range(len(text)):
        for substitute in SUBSTITUTES:
            assert is_whole(text[:place] + substitute + text[place + 1 :]), (place, substitute)
        assert is_whole(text[:place]), place


def paths_in(value: object, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the values of a JSON document are."""
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_in(inner, (*before, key))


def test_every_replaced_field_leaves_a_whole_description_or_none():
    text = SPEC.to_json()
    for path in list(paths_in(json.loads(text)))[1:]:
        for value in VALUES:
            document = json.loads(text)
            record = document
            for key in path[:-1]:
                record = record[key]
            record[path[-1]] = value
            assert is_whole(json.dumps(document)), (path, value)
