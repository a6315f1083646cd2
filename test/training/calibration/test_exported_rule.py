"""Owns: the unknown rule of a model file: fitted to the file's answers, measured, refused where it promises too much.

Leaves to others: which rule is chosen (test_fit), the comparison on the robot (test_postprocess).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from checkpoints import MADE
from PIL import Image
from scipy import stats
from tiny_model import tiny_spec

from cnn_perception.model.outputs import Outputs
from cnn_perception.model.spec import UnknownRule
from cnn_perception.pipeline.postprocess import Postprocessor
from training.calibration import exported_rule
from training.checkpoint import Calibration
from training.graphs.parity import ParityError

COUNT = 60


def rule(threshold, centres=(), promised=0.1):
    return UnknownRule("distance" if centres else "energy", threshold, promised, None, 0, centres, promised)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    names = []
    for index in range(COUNT):
        names.append(str(folder / f"{index:02}.png"))
        Image.new("RGB", (16, 12), (4 * index, 10, 10)).save(names[-1])
    return tuple(names)


def made(paths, fitted):
    targets = tuple((index % 2,) for index in range(len(paths)))
    return dataclasses.replace(MADE, val_images=paths, val_targets=targets, calibration=Calibration(1.0, (), fitted))


def graph(embed, asked=None):
    """Logits and embeddings of images, told apart by their mean; notes how many images each call has."""

    def run(images):
        if asked is not None:
            asked.append(len(images))
        means = images.mean((1, 2, 3), dtype=np.float64)
        return [np.stack([means, -means], 1).astype(np.float32), np.stack([embed(mean) for mean in means])]

    return run


def test_the_threshold_is_that_of_the_graph_and_not_of_the_network_it_was_made_from(paths):
    asked = []
    run = graph(lambda mean: np.float32([1, mean]), asked)

    found = exported_rule.refit(made(paths, rule(1e9)), run)  # by which every image would be unknown

    robot = Postprocessor(dataclasses.replace(tiny_spec(("a", "b")), unknown=found))
    said = []
    for path in paths:
        image = exported_rule.prepared_image(exported_rule.Path(path), MADE.input, "validation")
        logits, embedding = run(image[None])
        said.append(robot(Outputs(logits[0], None, embedding[0])).unknown)
    assert sum(said) == COUNT // 10
    assert (found.known_images, found.promised_rate) == (COUNT, 0.1)
    assert found.false_alarm_rate == pytest.approx(0.1, abs=0.05)  # measured on others than it was fitted to
    assert set(asked) == {1}  # as on the robot, one image at a time


def test_a_network_to_which_all_images_are_nearly_alike_keeps_the_promise_on_the_robot(paths):
    """Distances differ by what float32 rounds off: a threshold of other arithmetic in there calls most unknown."""
    direction = np.random.default_rng(0).normal(size=64)
    centre = direction / np.linalg.norm(direction)
    run = graph(lambda mean: (centre * (3 + mean)).astype(np.float32))  # of every length, in the same direction
    before = rule(2e-7, (tuple(map(float, centre)),))

    found = exported_rule.refit(made(paths, before), run)

    assert exported_rule.measure(before, made(paths, before), run) > 0.5
    assert exported_rule.measure(found, made(paths, found), run) <= 0.1
    assert found.false_alarm_rate <= 0.1


@pytest.mark.parametrize(
    ("rate", "images", "allowed"),
    [(0.05, 1000, True), (0.08, 1000, True), (0.09, 1000, False), (0.86, 160, False), (0.15, 20, True)],
)
def test_what_is_provably_more_than_two_points_above_the_promise_is_refused(rate, images, allowed):
    fitted = dataclasses.replace(rule(0.0, promised=0.05), known_images=images)
    proven = stats.binomtest(round(rate * images), images).proportion_ci(0.95, "wilson").low > 0.07
    assert proven is not allowed  # by scipy

    if allowed:
        exported_rule.require_promise(fitted, rate)
    else:
        with pytest.raises(ParityError, match=r"known images unknown and promises 5\.0%; nothing is written"):
            exported_rule.require_promise(fitted, rate)


def test_few_images_are_said_not_to_prove_two_points_and_many_do():
    few = dataclasses.replace(rule(0.0, promised=0.05), false_alarm_rate=0.05, known_images=160)
    many = dataclasses.replace(few, known_images=2000)

    assert "5.0% (2.6 to 9.6%) of 160 images, too few to prove it to 2 points" in exported_rule.in_words(few)
    assert exported_rule.in_words(many).endswith("of 2000 images")


def test_without_images_the_rule_stays_and_nothing_is_claimed(paths):
    before = rule(0.5)

    found = exported_rule.refit(made(("/nowhere/a.png",), before), graph(lambda mean: np.float32([1, mean])))

    assert found == before
    assert "not measured on this file" in exported_rule.in_words(found)


def test_an_older_checkpoint_promises_what_its_run_was_asked_for(paths):
    old = dataclasses.replace(rule(0.5), promised_rate=None, false_alarm_rate=0.03)
    saved = dataclasses.replace(made(paths, old), config={"false_alarm_rate": 0.2})

    found = exported_rule.refit(saved, graph(lambda mean: np.float32([1, mean])))

    assert found.promised_rate == 0.2
    assert exported_rule.measure(found, saved, graph(lambda mean: np.float32([1, mean]))) == 0.2


def test_an_embedding_that_is_no_number_is_refused(paths):
    centres = ((1.0, 0.0), (0.0, 1.0))
    with pytest.raises(ParityError, match="no numbers"):
        exported_rule.refit(made(paths, rule(0.5, centres)), graph(lambda mean: np.float32([np.nan, mean])))
