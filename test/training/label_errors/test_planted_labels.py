"""Owns: which planted errors are found, for each task. Leaves to others: the rule (test_confident), what is written."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training.label_errors.checks import doubts, out_of_fold
from training.label_errors.checks.doubts import GROUPS_ARE_CLASSES
from training.label_errors.checks.out_of_fold import FOLDS, Lesson, can_judge, classify, compact, folds
from training.label_errors.examination import examine, judge
from training.label_errors.record import meaning_of


def test_planted_errors_are_found_and_little_else(flipped):
    spoilt, rows = flipped

    findings = judge(spoilt, 0).findings

    found = {one.row for one in findings}
    assert len(found & rows) >= 8  # recall 0.8
    assert len(found & rows) >= 0.7 * len(found)  # precision
    names = spoilt.listing.class_names
    right = {row: int(spoilt.listing.samples[row].path.parent.name) for row in found & rows}
    assert all(one.guess == str(right[one.row]) for one in findings if one.row in rows)
    assert all(one.guess in names and one.doubt > 0.5 for one in findings)


def test_next_to_nothing_is_found_where_nothing_is_wrong(prepared):
    doubted = judge(prepared, 0)

    assert len(doubted.findings) <= 2
    assert doubted.noise < 0.02
    assert doubted.not_judged == 0


def test_share_of_wrong_labels_is_estimated(flipped):
    assert judge(flipped[0], 0).noise == pytest.approx(0.05, abs=0.02)


def test_what_the_first_round_finds_is_not_learned_from_in_the_second(flipped, monkeypatch):
    learned = []

    def noted(lesson, labels, classes, flags, penalty=None):
        learned.append(flags)
        return classify(lesson, labels, classes, flags, penalty)

    monkeypatch.setattr(out_of_fold, "classify", noted)
    judge(flipped[0], 0)

    first, second = learned
    left_out = set(np.flatnonzero(~second).tolist())
    assert first.all()
    assert len(left_out & flipped[1]) >= 7
    assert len(left_out) <= 12


def test_same_seed_finds_the_same(flipped):
    assert judge(flipped[0], 3) == judge(flipped[0], 3)


def test_labels_that_nothing_tells_are_said_to_be_so(prepared):
    labels = np.random.default_rng(0).integers(0, 4, 200)
    samples = tuple(
        dataclasses.replace(one, label=int(k)) for one, k in zip(prepared.listing.samples, labels, strict=True)
    )
    spoilt = dataclasses.replace(prepared, listing=prepared.listing.keep(samples))

    (note,) = judge(spoilt, 0).notes

    assert note.startswith("the labels can hardly be told by these features")
    assert judge(prepared, 0).notes == ()


def test_probabilities_are_of_classifiers_that_have_not_seen_the_image(prepared):
    """Another label of one image changes nothing of what is said of it while the folds stay."""
    labels = np.array([sample.label for sample in prepared.listing.samples])
    lesson = Lesson(prepared.compact, folds(np.eye(4, dtype=np.int64)[labels], np.arange(200), 0), lambda what: None)
    everything = np.ones(200, np.bool_)
    before = classify(lesson, labels, 4, everything, penalty=0.01)
    changed = labels.copy()
    changed[17] = (labels[17] + 1) % 4

    after = classify(lesson, changed, 4, everything, penalty=0.01)

    logits = [np.log(held.probabilities[17]) * held.temperature for held in (before, after)]
    assert logits[0] - logits[0][0] == pytest.approx(logits[1] - logits[1][0], abs=1e-6)


def test_what_is_left_out_is_not_learned_from_and_yet_judged(prepared):
    labels = np.array([sample.label for sample in prepared.listing.samples])
    lesson = Lesson(prepared.compact, folds(np.eye(4, dtype=np.int64)[labels], np.arange(200), 0), lambda what: None)
    learned = labels != 2

    held = classify(lesson, labels, 4, learned, penalty=0.01)

    assert held.probabilities[:, 2].max() < 1e-6
    assert held.probabilities.shape == (200, 4)


def test_folds_keep_units_whole_and_share_out_classes():
    labels = np.repeat([0, 1], 50)
    units = np.arange(100) // 2

    found = folds(np.eye(2, dtype=np.int64)[labels], units, 0)

    assert len(found) == out_of_fold.REPEATS
    assert not (found[0] == found[1]).all()
    for fold in found:
        assert (fold[::2] == fold[1::2]).all()
        counts = [np.bincount(labels[fold == number], minlength=2).tolist() for number in range(FOLDS)]
        assert counts == [[10, 10]] * FOLDS


def test_features_keep_their_distances_when_they_are_compacted():
    features = np.random.default_rng(0).normal(size=(30, 80)) * np.linspace(0.1, 9, 80)
    features[:, 5] = 3.0  # tells nothing
    scaled = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)

    found = compact(features)

    assert found.shape[1] <= 30
    expected = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    assert np.linalg.norm(found[:, None] - found[None], axis=2) == pytest.approx(expected, abs=1e-4)


def test_class_of_one_image_is_not_judged_and_said(prepared):
    samples = list(prepared.listing.samples)
    listing = dataclasses.replace(prepared.listing, class_names=(*prepared.listing.class_names, "alone"))
    samples[60] = dataclasses.replace(samples[60], label=4)
    alone = dataclasses.replace(prepared, listing=listing.keep(tuple(samples)))

    result = examine(alone, 0)

    assert all(one.row != 60 for one in result.findings if one.kind == "label")
    assert any(note.startswith("1 images are of classes with too few other images") for note in result.notes)


def test_groups_that_are_classes_are_said_and_judged_all_the_same(flipped):
    spoilt, rows = flipped
    samples = (dataclasses.replace(sample, group=sample.path.parent.name) for sample in spoilt.listing.samples)
    grouped = dataclasses.replace(spoilt, listing=spoilt.listing.keep(tuple(samples)))
    whole = [dataclasses.replace(sample, group=str(sample.label)) for sample in spoilt.listing.samples]
    by_label = dataclasses.replace(spoilt, listing=spoilt.listing.keep(tuple(whole)))

    found = judge(by_label, 0)

    assert found.notes == (GROUPS_ARE_CLASSES,)
    assert len({one.row for one in found.findings} & rows) >= 8
    assert judge(grouped, 0).not_judged <= 200


def test_images_of_a_group_are_judged_by_other_groups(prepared):
    samples = tuple(
        dataclasses.replace(sample, group=f"g{row % 20}") for row, sample in enumerate(prepared.listing.samples)
    )
    listing = prepared.listing.keep(samples)

    found, notes = doubts.folds_of(listing, [], 0)

    assert notes == ()
    groups = np.arange(200) % 20
    assert all(len(set(fold[groups == group])) == 1 for fold in found for group in range(20))


def test_three_others_of_a_label_must_be_learned_from_in_other_folds():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    fold = np.array([0, 1, 2, 3, 0, 0, 1, 2, 3])
    everything = np.ones(9, np.bool_)

    assert can_judge(labels, fold, everything).all()
    assert can_judge(labels, np.minimum(fold, 1), everything).tolist() == [True, *[False] * 3, True, True, *[False] * 3]
    without_first = everything.copy()
    without_first[0] = False  # it can be judged by the others, and they no more
    assert can_judge(labels, fold, without_first).tolist() == [True, *[False] * 3, *[True] * 5]


def several(prepared):
    """The digits as images of several classes: round (0), or with a stroke at the top (2, 7)."""
    digits = [int(sample.path.parent.name) for sample in prepared.listing.samples]
    samples = tuple(
        dataclasses.replace(sample, label=0, values=(float(digit == 0), float(digit in (2, 7))))
        for sample, digit in zip(prepared.listing.samples, digits, strict=True)
    )
    return dataclasses.replace(prepared.listing, task="multilabel", class_names=("round", "topped"), samples=samples)


def test_marks_of_images_with_several_classes_are_judged_class_by_class(prepared):
    listing = several(prepared)
    samples = list(listing.samples)
    rows = [3, 20, 60, 110, 170, 199]
    for row in rows:
        round_one, topped = samples[row].values
        samples[row] = dataclasses.replace(samples[row], values=(round_one, 1 - topped))
    spoilt = dataclasses.replace(prepared, listing=listing.keep(tuple(samples)))

    findings = {one.row: one for one in judge(spoilt, 0).findings}

    assert len(findings.keys() & set(rows)) >= 5
    assert len(findings) <= 8
    right = {row: listing.words(listing.samples[row]) for row in rows}
    assert all(findings[row].guess == right[row] for row in findings.keys() & set(rows))


def test_class_on_every_image_is_said_to_teach_nothing(prepared):
    listing = several(prepared)
    samples = tuple(dataclasses.replace(sample, values=(sample.values[0], 1.0)) for sample in listing.samples)
    spoilt = dataclasses.replace(prepared, listing=listing.keep(samples))

    found = judge(spoilt, 0)

    assert found.notes == ("class 'topped' is on no image, or on all: nothing can be learned of it",)


def test_numbers_far_from_what_the_others_teach_are_found(prepared):
    """The number is a linear function of the features, but for five images."""
    rng = np.random.default_rng(0)
    values = prepared.compact[:, :5] @ rng.normal(size=5)
    values = values / values.std() + rng.normal(size=200) * 0.05
    rows = [5, 55, 105, 155, 195]
    values[rows] += 2.0
    samples = tuple(
        dataclasses.replace(sample, label=0, values=(float(value), rng.normal()))
        for sample, value in zip(prepared.listing.samples, values, strict=True)
    )
    listing = dataclasses.replace(
        prepared.listing, task="regression", class_names=("angle", "chance"), units=("rad", ""), samples=samples
    )
    spoilt = dataclasses.replace(prepared, listing=listing)

    findings = {one.row: one for one in judge(spoilt, 0).findings}

    assert set(sorted(findings, key=lambda row: -findings[row].doubt)[:5]) == set(rows)
    assert len(findings) <= 12
    for row in rows:
        angle, other = map(float, findings[row].guess.split(";"))
        assert angle == pytest.approx(values[row] - 2.0, abs=0.5)
        assert other == pytest.approx(samples[row].values[1], rel=1e-5)  # nothing contradicts it
    assert "rad" in findings[5].text
    assert meaning_of(listing).in_units(samples[0]).values == pytest.approx(samples[0].values)
