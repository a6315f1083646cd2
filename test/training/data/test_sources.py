"""Owns: several folders and tables as one data set, rows that nobody has labelled, and images of none of the classes.

Leaves to others: the columns of one table (test_csv_table), the split of one (test_split), training on them
(test_tables).
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tiny_images import write_folder

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.label_text import NONE_OF_THESE
from training import check
from training.data.load import DataOptions, load_images, write_split
from training.data.records import RefusedDataError


@pytest.fixture
def images(tmp_path):
    write_folder(tmp_path, {"i": 40})
    return tmp_path


def table(file: Path, rows, columns=("class",), images="i"):
    """Writes a table of (number of the image, cells ...), its paths relative to itself."""
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(("path", *columns))
        writer.writerows((f"{images}/{number:02}.png", *cells) for number, *cells in rows)
    return file


def load(*paths, **options):
    return load_images(paths, DataOptions(**options))


def shown(data):
    """Part and class of every image by its file name."""
    return {sample.path.name: (sample.part, data.class_names[sample.label]) for sample in data.samples}


GO_STOP = [(i, "go" if i % 2 else "stop") for i in range(40)]


def test_two_tables_are_what_one_table_of_all_their_rows_is(images):
    one = load(table(images / "all.csv", GO_STOP), seed=3)
    two = load(table(images / "a.csv", GO_STOP[:15]), table(images / "b.csv", GO_STOP[15:]), seed=3)

    assert two.samples[0].source == 0
    assert [s.source for s in two.samples] == [0] * 15 + [1] * 25
    assert (two.class_names, shown(two)) == (one.class_names, shown(one))
    assert [s.path for s in two.samples] == [s.path for s in one.samples]
    assert two.where == f"{images / 'a.csv'} and {images / 'b.csv'}"


@pytest.mark.parametrize("split", ["random", "tail"])
def test_the_split_of_two_tables_is_that_of_one(images, split):
    rows = [(i, name, f"drive{i // 5}") for i, name in GO_STOP]
    columns = ("class", "bag")
    options = {"split": split, "test_fraction": 0.2, "seed": 5}
    one = load(table(images / "all.csv", rows, columns), **options)
    two = load(
        table(images / "a.csv", rows[:13], columns), table(images / "b.csv", rows[13:], columns), **options
    )  # drive2 is in both

    assert shown(two) == shown(one)
    assert len({sample.part for sample in two.samples if sample.group == "drive2"}) == 1


def test_paths_are_relative_to_each_table(tmp_path):
    for name in "ab":
        write_folder(tmp_path / name, {"i": 10}, first_seed=500 * ord(name))
        table(tmp_path / name / "labels.csv", [(i, "go" if i % 2 else "stop") for i in range(10)])

    found = load(tmp_path / "a", tmp_path / "b" / "labels.csv")

    assert Counter(sample.path.parent for sample in found.samples) == {tmp_path / "a/i": 10, tmp_path / "b/i": 10}
    assert found.name == "a+labels.csv"


def test_folders_and_tables_together_are_one_data_set(images):
    photos = write_folder(images / "photos", {"go": 9, "turn": 9}, first_seed=7000)

    found = load(table(images / "t.csv", GO_STOP), photos)

    assert found.class_names == ("go", "stop", "turn")
    assert Counter(found.class_names[s.label] for s in found.samples) == {"go": 29, "stop": 20, "turn": 9}
    (note,) = [line for line in found.warnings if "differ" in line]
    assert note == f"the classes differ: only {images / 't.csv'} has 'stop'; only {photos} has 'turn'"
    assert {found.class_names[s.label] for s in found.part("val")} == {"go", "stop", "turn"}


def test_a_table_with_parts_keeps_them_and_one_without_is_divided(images):
    kept = [(i, name, "val" if i in (3, 4) else "train") for i, name in GO_STOP[:20]]
    divided = GO_STOP[20:]

    found = load(table(images / "a.csv", kept, ("class", "part")), table(images / "b.csv", divided), seed=1)

    parts = {sample.path.name: sample.part for sample in found.samples}
    assert {f"{i:02}.png": part for i, _, part in kept}.items() <= parts.items()
    assert Counter(parts[f"{i:02}.png"] for i, _ in divided) == {"train": 16, "val": 4}
    said = "\n".join(check.describe(found, None))
    assert f"{images / 'a.csv'}: 20 images (18 train, 2 val, parts as it says)" in said
    assert f"{images / 'b.csv'}: 20 images (16 train, 4 val, divided here)" in said


def test_a_table_of_training_and_one_of_validation_images_stay_as_they_are(images):
    train = [(i, name, "train") for i, name in GO_STOP[:30]]
    val = [(i, name, "val") for i, name in GO_STOP[30:]]

    found = load(*(table(images / f"{k}.csv", rows, ("class", "part")) for k, rows in enumerate((train, val))))

    assert [s.part for s in found.samples] == ["train"] * 30 + ["val"] * 10


def test_what_belongs_to_a_held_out_recording_is_held_out_with_it(images):
    kept = [(i, name, "val" if i < 6 else "train", "drive1" if i < 6 else "drive2") for i, name in GO_STOP[:20]]
    others = [(i, name, "drive1" if i < 24 else "drive2" if i < 28 else "") for i, name in GO_STOP[20:]]

    for seed in range(5):
        found = load(
            table(images / "a.csv", kept, ("class", "part", "bag")),
            table(images / "b.csv", others, ("class", "bag")),
            seed=seed,
        )
        assert {s.part for s in found.samples if s.group == "drive1"} == {"val"}
        assert {s.part for s in found.samples if s.group == "drive2"} == {"train"}


def test_an_image_that_two_tables_label_alike_counts_once_and_it_is_said(images):
    shutil.copy(images / "i/03.png", images / "i/copy.png")
    shutil.move(images / "i/copy.png", images / "i/99.png")
    first = table(images / "a.csv", GO_STOP[:20])
    second = table(images / "b.csv", [GO_STOP[2], (99, "go"), *GO_STOP[20:]])

    found = load(first, second)

    assert len(found.samples) == 40
    assert "2 images dropped: same image in two sources" in found.warnings
    assert {(f.path.name, f.action) for f in found.findings if "sources" in f.reason} == {
        ("02.png", "dropped"),
        ("99.png", "dropped"),
    }


def test_an_image_that_two_tables_label_otherwise_is_a_conflict(images):
    first = table(images / "a.csv", GO_STOP[:20])
    second = table(images / "b.csv", [(3, "stop"), *GO_STOP[20:]])

    with pytest.raises(RefusedDataError, match=r"1 images have two labels, first .*stop here, go as .*03.png"):
        load(first, second)
    assert shown(load(first, second, on_conflict="first"))["03.png"][1] == "go"
    assert "03.png" not in shown(load(first, second, on_conflict="drop"))


def test_the_copy_whose_part_is_said_is_the_one_that_counts(images):
    undecided = table(images / "a.csv", GO_STOP[:20])
    kept = table(images / "b.csv", [(i, n, "val" if i < 4 else "train") for i, n in [*GO_STOP[:6], *GO_STOP[20:]]],
                 ("class", "part"))  # fmt: skip

    found = load(undecided, kept)

    assert {name for name, (part, _) in shown(found).items() if part == "val"} >= {f"{i:02}.png" for i in range(4)}
    assert len(found.samples) == 40


def test_what_does_not_go_together_is_refused_by_name(images):
    one = table(images / "a.csv", GO_STOP)
    several = table(images / "b.csv", [(i, "go;stop") for i in range(9)], ("classes",))
    columns = table(images / "c.csv", [(i, 1, 0) for i in range(9)], ("wet", "dark"))
    others = table(images / "d.csv", [(i, 1, 0) for i in range(9, 18)], ("wet", "loud"))

    with pytest.raises(DataError, match=r"a\.csv is multiclass, .*b\.csv is multilabel; give sources of one task"):
        load(one, several)
    with pytest.raises(DataError, match=r"d\.csv has 'loud', of which .*c\.csv has no column"):
        load(columns, others, task="multilabel")
    with pytest.raises(ConfigError, match=r"--targets: .*a.csv has no column 'angle'"):
        load(table(images / "n.csv", [(i, i) for i in range(9)], ("angle",)), one, targets=("angle",))
    (images / "set").mkdir()
    inside = table(images / "set/labels.csv", GO_STOP, images="../i")
    for twice in ((one, one), (inside, images / "set")):
        with pytest.raises(ConfigError, match="is named twice; name each once"):
            load(*twice)


def test_rows_without_a_label_are_left_out_and_counted(images):
    by_cell = load(table(images / "a.csv", [(i, name if i < 30 else "") for i, name in GO_STOP]))
    states = ("labelled",) * 28 + ("skipped",) * 5 + ("",) * 7
    by_state = load(table(images / "b.csv", [(i, n, states[i]) for i, n in GO_STOP], ("class", "state")))

    assert (len(by_cell.samples), len(by_state.samples)) == (30, 28)
    assert "  10 of 40 rows have no label yet: left out" in check.describe(by_cell, None)
    assert "  12 of 40 rows have no label yet: left out" in check.describe(by_state, None)


def test_an_empty_cell_of_several_classes_is_an_answer_where_its_state_says_so(images):
    rows = [(i, "" if i % 3 else "go", "labelled" if i < 20 else "") for i in range(40)]

    found = load(table(images / "a.csv", rows, ("classes", "state")))

    assert len(found.samples) == 20
    assert Counter(sample.values for sample in found.samples) == {(0.0,): 13, (1.0,): 7}


def test_a_column_of_states_of_another_kind_says_nothing(images):
    rows = [(i, name, "Ohio" if i % 3 else "Utah") for i, name in GO_STOP]

    assert len(load(table(images / "a.csv", rows, ("class", "state"))).samples) == 40


def test_the_columns_about_an_image_are_no_classes(images):
    about = ("state", "topic", "camera", "stamp_ns", "guess", "doubt", "reason", "cluster", "model")
    rows = [(i, i % 2, *("labelled", "/t", "front", i, "a", 0.5, "unknown", 1, "ab")) for i in range(40)]

    found = load(table(images / "a.csv", rows, ("wet", *about)), task="multilabel")

    assert found.class_names == ("wet",)


def test_an_empty_column_of_parts_leaves_the_division_to_us(images):
    found = load(table(images / "a.csv", [(i, name, "") for i, name in GO_STOP], ("class", "part")))

    assert len(found.part("val")) == 8


def none_rows(images, *numbers):
    rows = [(i, NONE_OF_THESE if i in numbers else name) for i, name in GO_STOP]
    return table(images / "labels.csv", rows)


def test_images_of_none_of_the_classes_are_no_class_and_are_divided_as_one(images):
    found = load(none_rows(images, *range(10)))

    assert found.class_names == ("go", "stop")
    assert (len(found.samples), len(found.outside)) == (30, 10)
    assert {sample.label for sample in found.samples} == {0, 1}
    assert Counter(sample.part for sample in found.outside) == {"train": 8, "val": 2}
    assert "  10 rows are 'none of these': images of no class, not trained on" in check.describe(found, None)


def test_one_image_of_none_of_the_classes_is_enough(images):
    found = load(none_rows(images, 7))

    assert [sample.path.name for sample in found.outside] == ["07.png"]


def test_images_of_none_of_the_classes_stay_with_their_recording(images):
    rows = [(i, NONE_OF_THESE if i % 5 == 0 else name, f"drive{i // 5}") for i, name in GO_STOP]

    for seed in range(4):
        found = load(table(images / "a.csv", rows, ("class", "bag")), seed=seed)
        part_of = {sample.group: sample.part for sample in found.samples}
        assert [sample.part for sample in found.outside] == [part_of[sample.group] for sample in found.outside]


def test_an_image_of_a_class_and_of_none_is_a_conflict(images):
    with pytest.raises(DataError, match=r"have two labels, first .*none of these here, go as"):
        load(table(images / "a.csv", GO_STOP), table(images / "b.csv", [(3, NONE_OF_THESE)]))


def test_a_dropped_class_leaves_the_images_of_none_what_they_are(images):
    rows = [(i, name, "val" if i > 35 else "train") for i, name in GO_STOP]
    rows[2:5] = [(i, "turn", "train") for i in range(2, 5)]  # not in val
    rows[7] = (7, NONE_OF_THESE, "train")

    found = load(table(images / "a.csv", rows, ("class", "part")), on_conflict="drop")

    assert found.class_names == ("go", "stop")
    assert [sample.path.name for sample in found.outside] == ["07.png"]


def test_the_record_of_a_split_is_read_as_the_same_data_set(images, tmp_path):
    found = load(none_rows(images, *range(10)), seed=2)
    write_split(tmp_path / "split.csv", found)

    again = load(tmp_path / "split.csv")

    assert shown(again) == shown(found)
    assert {(s.path, s.part) for s in again.outside} == {(s.path, s.part) for s in found.outside}


def test_a_class_of_that_name_is_refused_with_the_cure(tmp_path):
    folder = write_folder(tmp_path / "d", {"go": 3, NONE_OF_THESE: 3})
    with pytest.raises(DataError, match=r"cannot be called 'none of these'.*rename the folder, or .* --outside"):
        load(folder)
    (tmp_path / "names.txt").write_text("go\nnone of these\n")
    with pytest.raises(ConfigError, match="cannot be called 'none of these'"):
        DataOptions.of({"classes": str(tmp_path / "names.txt")})


def test_the_order_of_classes_of_the_user_is_kept_with_images_of_none(images):
    found = load(none_rows(images, 0, 1), class_names=("stop", "go"))

    assert [found.class_names[s.label] for s in found.samples[:2]] == ["stop", "go"]
    assert [sample.path.name for sample in found.outside] == ["00.png", "01.png"]


def test_a_table_that_nobody_has_labelled_yet_changes_nothing(images):
    alone = load(table(images / "a.csv", GO_STOP[:20]))
    waiting = table(images / "b.csv", [(i, "") for i in range(20, 40)])

    for found in (load(images / "a.csv", waiting), load(waiting, images / "a.csv")):
        assert shown(found) == shown(alone)
        assert not [line for line in found.warnings if "differ" in line]
        assert f"  {waiting}: 0 images; 20 of 20 rows have no label yet: left out" in check.describe(found, None)


def test_folds_share_out_the_images_of_none_of_the_classes(images):
    file = none_rows(images, *range(10))

    held_out = [load(file, folds=2, fold=fold).outside_of("val") for fold in (1, 2)]

    numbers = [{sample.path.name for sample in found} for found in held_out]
    assert numbers[0] | numbers[1] == {f"{i:02}.png" for i in range(10)}
    assert [len(one) for one in numbers] == [5, 5]


def test_groups_by_file_names_are_for_tables_that_name_none(images):
    named = table(images / "a.csv", [(i, name, f"drive{i % 3}") for i, name in GO_STOP[:20]], ("class", "bag"))
    plain = table(images / "b.csv", GO_STOP[20:])

    found = load(named, plain, group_pattern=r"\d")

    assert {s.group for s in found.samples} == {"drive0", "drive1", "drive2", "2", "3"}
    with pytest.raises(ConfigError, match="names groups itself"):
        load(named, group_pattern=r"\d")


def test_a_picture_brings_its_recording_along_from_the_table_that_names_it(images):
    plain = table(images / "a.csv", GO_STOP[:4] + GO_STOP[20:])
    named = table(images / "b.csv", [(i, name, "drive") for i, name in GO_STOP[:20]], ("class", "bag"))

    for seed in range(5):
        found = load(plain, named, seed=seed)
        assert [s.group for s in found.samples[:4]] == ["drive"] * 4
        assert len({s.part for s in found.samples if s.group == "drive"}) == 1


@pytest.mark.parametrize("name", ["None of these", "none_of_these", "NONE OF THESE"])
def test_what_only_a_computer_tells_from_none_of_these_is_refused(images, name):
    with pytest.raises(DataError, match="reads as 'none of these'"):
        load(table(images / "a.csv", [*GO_STOP[:30], (30, name)]))


def test_labels_that_were_typed_without_a_state_are_left_out_and_said(images):
    rows = [(i, name, "labelled" if i < 30 else "") for i, name in GO_STOP]

    found = load(table(images / "a.csv", rows, ("class", "state")))

    assert len(found.samples) == 30
    told = [line for line in check.describe(found, None) if "'state'" in line]
    assert len(told) == 1
    assert "10 rows have a label, but nothing in the column 'state', first in line 32: they are left out" in told[0]


def test_what_is_lacking_in_a_table_that_is_partly_labelled_says_so(images):
    rows = [(i, "go", "labelled" if i < 30 else "") for i in range(40)]

    with pytest.raises(DataError, match=r"one class only .*\(10 of 40 rows have no label yet\)"):
        load(table(images / "a.csv", rows, ("class", "state")))


def test_a_table_in_the_folder_of_each_part_says_the_parts(tmp_path):
    for number, part in enumerate(("train", "valid", "test")):
        write_folder(tmp_path, {part: 8}, first_seed=100 * number)
        lines = ["filename, Cat, Dog", *(f"{i:02}.png, {i % 2}, {int(i > 3)}" for i in range(8))]
        (tmp_path / part / "_classes.csv").write_text("\n".join(lines) + "\n")

    data = load(tmp_path, task="multilabel")

    assert data.class_names == ("Cat", "Dog")
    assert Counter((s.part, s.path.parent.name) for s in data.samples) == {
        ("train", "train"): 8, ("val", "valid"): 8, ("test", "test"): 8,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"_classes.csv has no column 'class' or 'classes'.* --task multilabel"):
        load(tmp_path)


def test_tables_that_are_called_as_parts_are_parts_and_it_is_said(images):
    given = [
        table(images / f"{part}_list.csv", GO_STOP[first::3]) for first, part in enumerate(("train", "val", "test"))
    ]
    data = load(*given)

    assert [s.part for s in data.samples] == ["train"] * 14 + ["val"] * 13 + ["test"] * 13
    assert sum("by its name all its images are taken for the part" in warning for warning in data.warnings) == 3
    others = [file.rename(images / name) for file, name in zip(given, ("a.csv", "b.csv", "train.csv"), strict=True)]
    assert len(load(*others).part("train")) == 32


def test_a_folder_whose_table_names_its_images_is_that_table(images):
    file = table(images / "labels.csv", GO_STOP)
    file.write_text(file.read_text().replace("path,class", "filename,label", 1))
    assert load(images).class_names == ("go", "stop")
    write_folder(images / "c", {"ant": 8, "bee": 8}, first_seed=900)
    (images / "c" / "labels.csv").write_text("id,name\n0,ant\n1,bee\n")
    assert load(images / "c").class_names == ("ant", "bee")
