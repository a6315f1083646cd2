"""Owns: when a camera's frames are said to differ from the training images. Oracles: hand arithmetic, scipy, streams.

Leaves to others: how the statistics of a model are measured (test_image_statistics).
"""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from PIL import Image, ImageStat
from scipy.stats import binom
from scipy.stats import entropy as shannon
from tiny_model import as_multilabel, regression_spec, tiny_spec, with_unknown

from cnn_perception.metrics import entropy
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, Moments, TrainingStatistics
from cnn_perception.pipeline.preprocess import preprocess
from cnn_perception.stream.drift import LEAST_FRAMES, WINDOW_FRAMES, Comparison, Drift, Share, brightness
from cnn_perception.tasks.prediction import Prediction

NAMES = ("red", "green", "blue")
SHARES = (0.5, 0.3, 0.2)
LIGHT = Moments(0.45, 0.12)
SURENESS = Moments(0.15, 0.2)
NOTHING = np.empty(0, np.float32)
STATISTICS = TrainingStatistics(images=150, class_shares=SHARES, brightness=LIGHT, entropy=SURENESS)
SPEC = dataclasses.replace(tiny_spec(NAMES), statistics=STATISTICS)
SURE = 0.98


def scores_of(top: int, sure: float, classes: int = 3) -> np.ndarray:
    scores = np.full(classes, (1 - sure) / (classes - 1), np.float32)
    scores[top] = sure
    return scores


def answer(top: int = 0, sure: float = SURE, unknown: bool = False) -> Prediction:
    return Prediction(NAMES, scores_of(top, sure), top, None, NOTHING, unknown=unknown)


def report_of(frames, spec=SPEC):
    drift = Drift(spec)
    for prediction, light in frames:
        drift.observe(prediction, light)
    return drift.report()


def usual(count: int, seed: int = 0):
    """Frames as the validation images were: classes by their shares, mostly sure, light of the same spread."""
    random = np.random.default_rng(seed)
    tops = random.choice(3, count, p=SHARES)
    sure = np.where(random.random(count) < 0.15, random.uniform(0.5, 0.9, count), 0.995)
    lights = np.clip(random.normal(LIGHT.mean, LIGHT.std, count), 0, 1)
    return [(answer(int(top), float(p)), float(light)) for top, p, light in zip(tops, sure, lights, strict=True)]


# ---- the quantities


@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_brightness_is_the_mean_of_the_picture_as_the_model_gets_it(mode):
    spec = InputSpec(40, 60, mode, 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)  # of the input's size: not resized

    found = brightness(preprocess(pixels, spec), spec)

    assert found == pytest.approx(np.mean(ImageStat.Stat(Image.fromarray(pixels)).mean) / 255, abs=1e-6)


def test_the_padding_of_a_letterbox_counts_as_the_mean_colour():
    spec = InputSpec(40, 40, "letterbox", 1.0, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    white = np.full((10, 20, 3), 255, np.uint8)  # fills half of the input

    assert brightness(preprocess(white, spec), spec) == pytest.approx((1 + 0.4) / 2, abs=1e-6)


@pytest.mark.parametrize("scores", [(1, 0, 0), (0.5, 0.25, 0.25), (1 / 3,) * 3])
def test_entropy_is_that_of_scipy_in_nats(scores):
    assert entropy(np.array(scores, np.float32)) == pytest.approx(shannon(scores), abs=1e-6)


def test_the_figures_are_those_of_the_window_by_hand():
    frames = [(answer(0, 0.5), 0.2), (answer(2, 0.8), 0.4), (answer(2, 0.98), 0.6), (answer(2, 1.0), 0.8)]

    report = report_of(frames)

    unsure = [shannon(scores_of(0, sure)) for sure in (0.5, 0.8, 0.98, 1.0)]
    assert report.frames == 4
    assert report.brightness.now.mean == pytest.approx(0.5)
    assert report.brightness.now.std == pytest.approx(np.sqrt(0.05))
    assert report.entropy.now.mean == pytest.approx(np.mean(unsure), abs=1e-6)
    assert report.entropy.now.std == pytest.approx(np.std(unsure), abs=1e-6)
    assert (report.brightness.trained, report.entropy.trained) == (LIGHT, SURENESS)
    assert report.class_share == Share("blue", 0.75, 0.2)
    assert report.unknown is None
    assert report.warnings == ()
    assert report.values() == {
        "drift: frames": "4",
        "drift: brightness now/trained": "0.500 / 0.450",
        "drift: brightness deviation now/trained": "0.224 / 0.120",
        "drift: entropy (nats) now/trained": f"{np.mean(unsure):.3f} / 0.150",
        "drift: entropy (nats) deviation now/trained": f"{np.std(unsure):.3f} / 0.200",
        "drift: views vary": "yes",
        "drift: class that differs most": "blue",
        "drift: its share now/trained": "0.750 / 0.200",
    }


def test_only_the_latest_frames_count():
    report = report_of([(answer(), 0.9)] * 50 + [(answer(), 0.4)] * WINDOW_FRAMES)

    assert (report.frames, report.brightness.now.mean) == (WINDOW_FRAMES, pytest.approx(0.4))


# ---- no warning where nothing is wrong


def test_ten_thousand_frames_like_the_validation_images_raise_no_alarm():
    drift = Drift(with_unknown(SPEC, 0.0))
    random = np.random.default_rng(5)
    for number, (prediction, light) in enumerate(usual(10_000)):
        drift.observe(dataclasses.replace(prediction, unknown=bool(random.random() < 0.05)), light)
        if number % 30 == 0:
            assert drift.report().warnings == ()


def test_looking_at_one_thing_for_minutes_raises_no_alarm():
    random = np.random.default_rng(1)
    lights = random.normal(0.6, 0.01, 4000)  # the camera's noise

    assert report_of([(answer(2), float(light)) for light in lights]).warnings == ()
    assert report_of([(answer(2), float(light)) for light in lights]).views_vary is False


def test_being_sure_of_everything_raises_no_alarm():
    unsure_in_training = dataclasses.replace(STATISTICS, entropy=Moments(0.6, 0.05))
    frames = [(dataclasses.replace(p, scores=scores_of(p.top, 1.0)), light) for p, light in usual(600)]

    report = report_of(frames, dataclasses.replace(SPEC, statistics=unsure_in_training))

    assert report.entropy.now.mean == 0
    assert report.warnings == ()


def test_nothing_is_said_of_too_few_frames():
    assert report_of([(answer(0, 1 / 3), 0.0)] * (LEAST_FRAMES - 1)).warnings == ()
    assert len(report_of([(answer(0, 1 / 3), 0.0)] * LEAST_FRAMES).warnings) == 2


def test_training_images_that_are_all_alike_leave_room_for_small_changes():
    alike = TrainingStatistics(images=1, class_shares=SHARES, brightness=Moments(0.5, 0), entropy=Moments(0, 0))
    spec = dataclasses.replace(SPEC, statistics=alike)

    assert report_of([(answer(0, 0.99), 0.59)] * 300, spec).warnings == ()  # entropy 0.06, a tenth of ln 3 is 0.11
    assert len(report_of([(answer(0, 0.9), 0.61)] * 300, spec).warnings) == 2


# ---- a warning where something is


@pytest.mark.parametrize(
    ("light", "word"),
    [(0.08, "darker"), (0.10, ""), (0.80, ""), (0.82, "brighter")],  # 0.45 +/- 3 * 0.12 is 0.09 and 0.81
)
def test_a_view_beyond_three_deviations_is_too_dark_or_too_bright(light, word):
    warnings = report_of([(answer(), light)] * 300).warnings

    assert len(warnings) == bool(word)
    if word:
        text = f"the images are {word} than those of training: brightness {light:.2f}, then 0.45 +/- 0.12"
        assert warnings == (text,)


def test_a_model_that_has_become_unsure_is_noticed():
    frames = [(dataclasses.replace(p, scores=scores_of(p.top, 0.7)), light) for p, light in usual(600)]

    (warning,) = report_of(frames).warnings

    # shannon of 0.7, 0.15 and 0.15 is 0.82; 0.15 + 2 * 0.2 is 0.55
    assert warning == "the model is less sure than in training: entropy 0.82, then 0.15 +/- 0.20 nats"


def test_one_answer_to_different_views_is_noticed():
    frames = [(answer(2), light) for _, light in usual(600)]

    report = report_of(frames)

    assert report.views_vary
    assert report.warnings == ("blue is in 100% of the answers but in 20% of the training images",)


# a quarter, and sqrt(ln(2 * 3 / 1e-6) / (2 * 600)) = 0.114 for chance (Hoeffding, three classes), above 0.2
@pytest.mark.parametrize(("share", "warned"), [(0.56, False), (0.57, True)])
def test_a_class_must_be_out_by_more_than_a_quarter_and_chance(share, warned):
    of_class = [round(600 * part) for part in ((1 - share) * 5 / 8, (1 - share) * 3 / 8, share)]
    tops = np.repeat([0, 1, 2], of_class).tolist()

    report = report_of([(answer(top), light) for top, (_, light) in zip(tops, usual(600), strict=True)])

    assert report.class_share.name == "blue"
    assert bool(report.warnings) == warned


def test_a_class_that_is_never_seen_again_is_noticed():
    spec = dataclasses.replace(SPEC, statistics=dataclasses.replace(STATISTICS, class_shares=(0.8, 0.1, 0.1)))
    frames = [(answer(1 + number % 2), light) for number, (_, light) in enumerate(usual(600))]

    assert report_of(frames, spec).warnings == ("red is in 0% of the answers but in 80% of the training images",)


def test_of_several_classes_an_image_each_is_compared():
    spec = as_multilabel(SPEC, 0.5, 0.9, 0.5)
    statistics = TrainingStatistics(images=9, class_shares=(0.9, 0.9, 0.1), brightness=LIGHT, entropy=None)
    spec = dataclasses.replace(spec, statistics=statistics)
    scores = np.array([0.9, 0.8, 0.1], np.float32)  # red, and green not above its threshold
    limits = np.array([0.5, 0.9, 0.5], np.float32)
    seen = Prediction(NAMES, scores, 0, None, NOTHING, task="multilabel", thresholds=limits)

    report = report_of([(seen, light) for _, light in usual(600)], spec)

    assert report.entropy is None
    assert report.warnings == ("green is in 0% of the answers but in 90% of the training images",)


def test_numbers_are_watched_by_their_light_alone():
    statistics = TrainingStatistics(images=9, class_shares=(), brightness=LIGHT, entropy=None)
    spec = dataclasses.replace(regression_spec({"angle": "rad"}), statistics=statistics)
    number = Prediction(("angle",), NOTHING, 0, None, NOTHING, task="regression", values=np.ones(1, np.float32))

    report = report_of([(number, 0.0)] * 300, spec)

    assert (report.entropy, report.class_share, report.unknown) == (None, None, None)
    assert [warning[:21] for warning in report.warnings] == ["the images are darker"]


@pytest.mark.parametrize(
    ("rate", "share", "warned"),
    # more than half, and more than the rate by sqrt(ln(2 / 1e-6) / (2 * 600)) = 0.110 (Hoeffding)
    [(0.05, 0.49, False), (0.05, 0.52, True), (0.45, 0.55, False), (0.45, 0.57, True)],
)
def test_mostly_unknown_answers_are_noticed_even_of_one_view(rate, share, warned):
    spec = with_unknown(SPEC, 0.0)
    spec = dataclasses.replace(spec, unknown=dataclasses.replace(spec.unknown, false_alarm_rate=rate))
    count = round(share * 600)

    report = report_of([(answer(unknown=number < count), 0.5) for number in range(600)], spec)

    assert report.unknown == Share("unknown", pytest.approx(share), rate)
    assert report.values()["drift: unknown now/trained"] == f"{share:.3f} / {rate:.3f}"
    expected = f"{share:.0%} of the answers are unknown, of the validation images {rate:.0%} were"
    assert report.warnings == ((expected,) if warned else ())
    if warned:
        assert binom.sf(count - 1, 600, rate) < 1e-6


def test_unknown_answers_are_no_class():
    answers = (answer(2), answer(0, unknown=True), answer(0, unknown=True), answer(0, unknown=True))
    frames = [(answers[number % 4], light) for number, (_, light) in enumerate(usual(600))]
    report = report_of(frames, with_unknown(SPEC, 0.0))
    assert report.class_share == Share("blue", 1.0, 0.2)
    assert [warning[:3] for warning in report.warnings] == ["75%"]  # 150 known answers are too few for the classes


# ---- models that say less, threads


def test_a_model_without_statistics_is_not_judged():
    report = report_of([(answer(0, 1 / 3), 0.0)] * 600, tiny_spec(NAMES))

    assert report.warnings == ()
    assert report.values() == {"drift: frames": "600"}


def test_without_frames_there_is_nothing_to_compare():
    report = Drift(with_unknown(SPEC, 0.0)).report()

    assert (report.frames, report.brightness, report.class_share, report.unknown) == (0, None, None, None)
    assert report.values() == {"drift: frames": "0"}


def test_a_report_may_be_asked_for_while_frames_come():
    drift = Drift(SPEC)
    failures = []

    def watch():
        try:
            for _ in range(200):
                drift.report()
        except RuntimeError as error:  # such as a deque that changed while it was read
            failures.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for prediction, light in usual(3000):
        drift.observe(prediction, light)
    watcher.join()
    assert failures == []
    assert drift.report().frames == WINDOW_FRAMES


def test_comparisons_keep_both_sides():
    assert report_of([(answer(), 0.45)]).brightness == Comparison(Moments(0.45, 0.0), LIGHT)
