"""Owns: which image is held out: classes, groups, order, folds. Leaves to others: finding images and duplicates."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_perception.errors import ConfigError, DataError
from training.data.records import Listing, Sample, Source
from training.data.split import Division, divide, unite, with_groups

NONE = np.empty((0, 2), np.int64)


def listing(labels, groups=None, *, task="multiclass", in_time=False, parts=None, values=None):
    count = len(labels)
    samples = tuple(
        Sample(
            Path(f"d/{labels[i]}/{i}.png"),
            labels[i],
            parts[i] if parts else "train",
            values[i] if values else (),
            groups[i] if groups else "",
        )
        for i in range(count)
    )
    names = tuple("abcdefgh"[: max(labels) + 1]) if not values else tuple("abcdefgh"[: len(values[0])])
    return Listing((Source(Path("d"), frozenset(parts or ("train",))),), task, names, (), samples, in_time, {})


def split(data, val=0.2, test=0.0, seed=0, by="random", together=NONE, alike=NONE, folds=None, fold=None):
    return divide(data, together, alike, Division(val, test, seed, by, folds, fold))


def counts(samples):
    return Counter((sample.part, sample.label) for sample in samples)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 40), min_size=2, max_size=4),
    val=st.floats(0.01, 0.6),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 1000),
)
def test_every_class_gives_its_rounded_share_at_least_one_image_and_never_all(sizes, val, test, seed):
    found = counts(split(listing([label for label, size in enumerate(sizes) for _ in range(size)]), val, test, seed))

    for label, size in enumerate(sizes):
        tested = min(size - 1, max(1, round(test * size))) if test else 0
        validated = min(size - tested - 1, max(1, round(val * size)))
        assert found["test", label] == tested
        assert found["val", label] == validated
        assert found["train", label] == size - tested - validated


def test_the_seed_decides():
    data = listing([0] * 50 + [1] * 50)

    assert split(data, seed=1) == split(data, seed=1)
    assert split(data, seed=1) != split(data, seed=2)


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.integers(0, 12), min_size=40, max_size=80), seed=st.integers(0, 100), folds=st.integers(2, 4))
def test_images_of_one_group_are_never_on_both_sides(groups, seed, folds):
    data = listing([i % 2 for i in range(len(groups))], [f"g{group}" for group in groups])
    ways = [{"by": "random"}, {"by": "tail"}] + [{"folds": folds, "fold": fold} for fold in range(1, folds + 1)]

    for way in ways:
        try:
            samples = split(data, seed=seed, **way)
        except DataError:
            continue
        parts = {}
        for sample in samples:
            assert parts.setdefault(sample.group, sample.part) == sample.part


def test_groups_keep_the_shares_of_the_classes_as_well_as_they_can():
    groups = [f"g{i // 5}" for i in range(200)]  # 20 groups of 5 images in each class
    found = counts(split(listing([0] * 100 + [1] * 100, groups), 0.2))

    assert found == {("train", 0): 80, ("val", 0): 20, ("train", 1): 80, ("val", 1): 20}


def test_copies_and_chains_of_copies_are_kept_together():
    data = listing([0] * 10 + [1] * 10)
    pairs = np.array([[0, 4], [4, 7], [11, 12]])

    assert len(set(unite(data.samples, [pairs])[[0, 4, 7]])) == 1
    for seed in range(20):
        part = [sample.part for sample in split(data, 0.3, seed=seed, together=pairs)]
        assert part[0] == part[4] == part[7]
        assert part[11] == part[12]


def test_near_duplicates_are_parted_only_where_nothing_could_be_held_out_otherwise():
    chain = np.array([[i, i + 1] for i in range(9)])
    data = listing([0] * 10 + [1] * 10)

    assert counts(split(data, alike=chain))["val", 0] == 2
    with pytest.raises(DataError, match="val would have no image of class 'a'") as caught:
        split(data, together=chain)
    assert "\n" not in str(caught.value)


def test_given_parts_are_left_alone():
    parts = ["train"] * 10 + ["val"] * 4 + ["train"] * 10 + ["val"] * 4
    data = listing([0] * 14 + [1] * 14, parts=parts)

    assert [sample.part for sample in split(data)] == parts


def test_the_tail_of_a_recording_is_held_out_test_last():
    part = [sample.part for sample in split(listing([0, 1] * 50, in_time=True), 0.2, 0.1, by="tail")]

    assert part == ["train"] * 70 + ["val"] * 20 + ["test"] * 10


def test_the_tail_of_a_folder_is_that_of_each_class_in_the_order_of_numbers():
    samples = split(listing([0] * 20 + [1] * 10), 0.2, by="tail")  # d/0/0.png ... d/0/19.png, d/1/20.png ...

    held = [sample.path.name for sample in samples if sample.part == "val"]
    assert held == ["16.png", "17.png", "18.png", "19.png", "28.png", "29.png"]


def test_a_group_across_the_tails_edge_goes_where_most_of_it_is():
    groups = [f"g{i // 6}" for i in range(60)]  # the last 20 % begin at 48, where a group begins; the last 15 % at 51
    data = listing([0, 1] * 30, groups, in_time=True)

    assert [s.part for s in split(data, 0.2, by="tail")] == ["train"] * 48 + ["val"] * 12
    assert [s.part for s in split(data, 0.12, by="tail")] == ["train"] * 54 + ["val"] * 6


@pytest.mark.parametrize("by", ["random", "tail"])
def test_each_image_is_validated_on_in_exactly_one_fold(by):
    data = listing([0] * 23 + [1] * 31, in_time=by == "tail")

    folds = [split(data, folds=4, fold=fold, by=by) for fold in (1, 2, 3, 4)]

    assert all(len(samples) == 54 for samples in folds)
    held = Counter(sample.path for sample in itertools.chain.from_iterable(folds) if sample.part == "val")
    assert set(held.values()) == {1}
    assert len(held) == 54
    if by == "random":
        for label, few in ((0, 5), (1, 7)):  # 23 = 4 x 5 + 3, 31 = 4 x 7 + 3
            assert all(counts(samples)["val", label] in (few, few + 1) for samples in folds)
        assert sorted(sum(s.part == "val" for s in samples) for samples in folds) == [13, 13, 14, 14]
    else:
        assert [s.part for s in folds[0]] == ["val"] * 14 + ["train"] * 40


def test_the_folds_are_made_of_the_training_part_alone():
    data = listing([0] * 12 + [1] * 12, parts=(["train"] * 9 + ["val"] * 2 + ["test"]) * 2)

    samples = split(data, folds=3, fold=2)

    assert len(samples) == 18
    assert {s.path.name for s in samples}.isdisjoint({"9.png", "10.png", "11.png", "21.png", "22.png", "23.png"})
    assert counts(samples) == {("train", 0): 6, ("val", 0): 3, ("train", 1): 6, ("val", 1): 3}


def test_several_classes_an_image_are_stratified_too():
    rng = np.random.default_rng(0)
    values = [tuple(map(float, row)) for row in rng.random((400, 4)) < (0.5, 0.2, 0.1, 0.05)]
    data = listing([0] * 400, task="multilabel", values=values)

    samples = split(data, 0.25)

    held = np.array([s.values for s in samples if s.part == "val"])
    assert len(held) == pytest.approx(100, abs=2)
    assert np.abs(held.sum(axis=0) - 0.25 * np.array(values).sum(axis=0)).max() <= 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^([^_]+)_", ["cam1", "cam1", "cam2"]),
        (r"(\w\w\w)\d_(?P<group>\d\d)", ["01", "02", "01"]),
        (r"cam\d", ["cam1", "cam1", "cam2"]),
    ],
)
def test_the_group_is_taken_from_the_file_name(pattern, expected):
    samples = tuple(Sample(Path(f"d_x/a/{name}"), 0, "train") for name in ("cam1_01.png", "cam1_02.png", "cam2_01.png"))

    assert [s.group for s in with_groups(listing([0, 1]).keep(samples), pattern).samples] == expected


def test_a_useless_group_pattern_is_refused():
    data = listing([0, 1])

    with pytest.raises(ConfigError, match="no regular expression"):
        with_groups(data, "(")
    with pytest.raises(DataError, match=r"d/0/0\.png: its name has no group"):
        with_groups(data, "frame(.)")
    with pytest.raises(ConfigError, match="names groups itself"):
        with_groups(listing([0, 1], ["x", "y"]), r"(\d)")
