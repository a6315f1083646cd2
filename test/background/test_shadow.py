"""Owns: how a second model is compared with the running one. Leaves to others: the thread (test_worker).

The tiny model's logits are 10 times the mean of its colour channels in [0, 1], so every answer is hand arithmetic.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading

import numpy as np
import onnx
import pytest
from tiny_model import TINY_INPUT, as_multilabel, regression_spec, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.background.shadow import Shadow
from cnn_perception.errors import ConfigError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline

TIMEOUT_S = 60.0
NAMES = ("red", "green", "blue")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ALONE = SessionOptions(providers=("CPUExecutionProvider",), intra_op_threads=1)


def flat(colour):
    return np.full((24, 32, 3), colour, np.uint8)


def pipeline(folder, name, spec=None, **options):
    return Pipeline.load(write_tiny_model(folder / f"{name}.onnx", spec=spec or tiny_spec(), **options), ALONE)


def numbers(**units):
    return regression_spec({"a": "m", "b": "", "c": "s"} | units)


def compare(running, other, images):
    """Returns the report on one frame of each of several cameras, none of which overtakes another."""
    failures = []
    shadow = Shadow(other, running.spec, failures.append)
    for number, image in enumerate(images):
        assert shadow.offer(image, running.recognise(image), f"c{number}", 12_345_000_000 + number)
    assert shadow.close(TIMEOUT_S)
    assert failures == []
    return shadow.report()


def test_two_equal_models_never_disagree(tmp_path):
    report = compare(pipeline(tmp_path, "a"), pipeline(tmp_path, "b"), [flat(c) for c in (RED, GREEN, BLUE)])

    assert (report.compared, report.disagreed, report.rate, report.pairs, report.latest) == (3, 0, 0.0, (), ())


def test_disagreements_are_counted_paired_and_told(tmp_path):
    other = pipeline(tmp_path, "other", tiny_spec(("green", "red", "blue")))
    report = compare(pipeline(tmp_path, "running"), other, [flat(c) for c in (RED, RED, GREEN, BLUE, (128, 64, 0))])

    assert (report.compared, report.disagreed, report.rate) == (5, 4, 0.8)
    assert report.pairs == (("red", "green", 3), ("green", "red", 1))
    assert report.latest[:3] == tuple(
        f"c{i} 12.345: {ours} 1.00, shadow {its} 1.00"
        for i, (ours, its) in enumerate((("red", "green"), ("red", "green"), ("green", "red")))
    )
    # softmax of 10 / 255 * (128, 64, 0): 1 / (1 + e^-2.510 + e^-5.020) = 0.9193
    assert report.latest[3] == "c4 12.345: red 0.92, shadow green 0.92"
    values = report.values()
    assert (values["shadow: disagreement rate"], values["shadow: compared"]) == ("0.8000", "5")
    assert values["shadow: most frequent"] == "red / green: 3; green / red: 1"


def test_only_the_latest_disagreements_are_kept(tmp_path):
    other = pipeline(tmp_path, "other", tiny_spec(("green", "red", "blue")))
    report = compare(pipeline(tmp_path, "running"), other, [flat(RED)] * 8)

    assert report.disagreed == 8
    assert [line.split()[0] for line in report.latest] == ["c3", "c4", "c5", "c6", "c7"]


def test_unknown_is_an_answer_like_any_other(tmp_path):
    # logsumexp of (10, 0, 0) is 10.0001, of (5, 0, 0) it is 5.013
    other = pipeline(tmp_path, "other", with_unknown(tiny_spec(), 8.0))
    report = compare(pipeline(tmp_path, "running"), other, [flat(RED), flat((127, 0, 0))])

    assert report.pairs == (("red", "unknown", 1),)
    assert report.latest == ("c1 12.345: red 0.99, shadow unknown",)


def test_classes_that_only_one_knows_are_said_and_compared_by_name(tmp_path):
    running = pipeline(tmp_path, "running", tiny_spec(("blue", "green", "red")))  # answers blue for a red picture
    other = pipeline(tmp_path, "other", tiny_spec(("blue", "lime", "red", "grey")))
    shadow = Shadow(other, running.spec, pytest.fail)
    shadow.close(TIMEOUT_S)

    assert shadow.note == "only the running model knows green; only the shadow knows lime, grey"
    report = compare(running, other, [flat(RED), flat(GREEN), flat(BLUE)])
    assert report.pairs == (("green", "lime", 1),)


def test_several_classes_are_compared_as_far_as_both_know_them(tmp_path):
    running = pipeline(tmp_path, "running", as_multilabel(tiny_spec(), 0.6, 0.6, 0.6))  # seen from 11 of 255 on
    its = as_multilabel(tiny_spec(("red", "green", "lime")), 0.6, 0.99, 0.6)  # green is seen from 118 of 255 on
    report = compare(running, pipeline(tmp_path, "other", its), [flat(c) for c in ((200, 200, 200), (90, 90, 0), RED)])

    assert (report.compared, report.disagreed) == (3, 1)
    assert report.pairs == (("green", "not seen", 1),)
    # sigmoid of 10 * 90 / 255 is 0.9715
    assert report.latest == ("c1 12.345: red 0.97 + green 0.97, shadow red 0.97",)


def test_numbers_are_compared_by_their_mean_absolute_difference(tmp_path):
    units = {"angle": "rad", "speed": "m/s", "height": "m"}
    running = pipeline(tmp_path, "running", regression_spec(units))
    other = pipeline(tmp_path, "other", regression_spec(units), gain=5.0, bias=(0.0, 0.0, 1.0))
    report = compare(running, other, [flat((255, 51, 0)), flat((0, 51, 102))])

    # 10 c against 5 c, and 10 c against 5 c + 1
    assert report.differences == pytest.approx({"angle": 2.5, "speed": 1.0, "height": (1 + 1) / 2}, abs=1e-5)
    assert (report.compared, report.disagreed) == (2, 0)
    assert report.values()["shadow: mean difference of angle"] == "2.5"
    assert "shadow: disagreement rate" not in report.values()


@pytest.mark.parametrize(
    ("running", "other", "message"),
    [
        (tiny_spec(), as_multilabel(tiny_spec(), 0.5, 0.5, 0.5), "the shadow is a multilabel model"),
        (tiny_spec(), tiny_spec(("a", "b", "c")), "no class or number in common"),
        (regression_spec({"a": "m", "b": "", "c": "s"}), regression_spec({"a": "mm", "b": "", "c": "s"}), "a is in mm"),
        (
            regression_spec({"a": "m", "b": "", "c": "s"}),
            regression_spec({"a": "m", "b": "kg", "c": "s"}),
            "in no unit",
        ),
    ],
)
def test_a_shadow_that_answers_another_question_is_refused(tmp_path, running, other, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Shadow(pipeline(tmp_path, "other", other), running, pytest.fail)
    assert str(caught.value).startswith(f"{tmp_path}/other.onnx: ")


def test_a_frame_that_the_shadow_cannot_answer_is_counted(tmp_path):
    broken = pipeline(tmp_path, "broken", bias=(float("nan"), 0.0, 0.0))
    report = compare(pipeline(tmp_path, "running"), broken, [flat(RED), flat(BLUE)])

    assert (report.compared, report.failed, report.rate) == (0, 2, 0.0)


def test_a_slow_shadow_holds_nobody_up_and_skips_to_the_newest(tmp_path, monkeypatch):
    running = pipeline(tmp_path, "running")
    other = pipeline(tmp_path, "other")
    begun = threading.Event()
    released = threading.Event()
    looked_at = []

    def slow(image):
        looked_at.append(int(image[0, 0, 0]))
        begun.set()
        assert released.wait(TIMEOUT_S)
        return running.recognise(image)

    monkeypatch.setattr(other, "recognise", slow)
    shadow = Shadow(other, running.spec, pytest.fail)
    for red in range(200, 210):
        shadow.offer(flat((red, 0, 0)), running.recognise(flat((red, 0, 0))), "front", red)
        assert begun.wait(TIMEOUT_S)
    released.set()
    assert shadow.close(TIMEOUT_S)

    assert looked_at == [200, 209]
    assert (shadow.report().compared, shadow.report().skipped) == (2, 8)


def test_a_defect_of_the_shadow_is_reported(tmp_path, monkeypatch):
    running = pipeline(tmp_path, "running")
    other = pipeline(tmp_path, "other")
    failures = []
    monkeypatch.setattr(other, "recognise", lambda _: 1 / 0)
    shadow = Shadow(other, running.spec, failures.append)
    shadow.offer(flat(RED), running.recognise(flat(RED)), "front", 1)
    assert shadow.close(TIMEOUT_S)

    assert [type(error) for error in failures] == [ZeroDivisionError]
    assert shadow.report().values()["shadow"] == "stopped by a defect (ZeroDivisionError: division by zero)"
    assert not shadow.offer(flat(RED), running.recognise(flat(RED)), "front", 2)


def test_an_image_is_recognised_as_the_whole_line_would(tmp_path):
    line = pipeline(tmp_path, "model")
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

    logits = 10 * image.reshape(-1, 3).mean(axis=0) / 255  # the tiny model's input is a quarter of the picture
    expected = np.exp(logits) / np.exp(logits).sum()

    found = line.recognise(image)
    np.testing.assert_allclose(found.scores, expected, atol=0.01)
    assert found.activation is None


def write_endless_model(path):
    """A model that blurs its input so many times that one run takes many seconds."""
    graph = onnx.load(write_tiny_model(path, input=dataclasses.replace(TINY_INPUT, height=480, width=640)))
    first = next(node for node in graph.graph.node if node.op_type == "AveragePool")
    names = ["image", *(f"blurred{number}" for number in range(5000))]
    blurs = [
        onnx.helper.make_node("AveragePool", [before], [after], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        for before, after in itertools.pairwise(names)
    ]
    first.input[0] = names[-1]
    nodes = [*blurs, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    onnx.save(graph, path)
    return path


def test_a_shadow_in_the_midst_of_a_long_run_is_made_to_give_up(tmp_path, monkeypatch):
    running = pipeline(tmp_path, "running")
    monkeypatch.setattr(OnnxModel, "_warm_up", lambda *_: None)
    slow = Pipeline.load(write_endless_model(tmp_path / "slow.onnx"), ALONE)
    begun = threading.Event()
    recognise = slow.recognise
    monkeypatch.setattr(slow, "recognise", lambda image: begun.set() or recognise(image))
    shadow = Shadow(slow, running.spec, pytest.fail)
    shadow.offer(flat(RED), running.recognise(flat(RED)), "front", 1)
    assert begun.wait(TIMEOUT_S)

    assert shadow.close(2.0)
    assert (shadow.report().compared, shadow.report().failed) == (0, 1)
