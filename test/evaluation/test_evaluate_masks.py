"""Owns: evaluate_bag --masks: which mask is compared with which frame, and the figures in report, page and text.

Leaves to others: the arithmetic of the figures (test_mask_scores), reading masks (test_mask_folder).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_bag
from evaluating import Page, run
from PIL import Image
from tiny_bag import START_NS
from tiny_model import as_multilabel, tiny_spec, with_score_map, write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.evaluation import cli, evaluation
from cnn_perception.masks import segmentation
from cnn_perception.masks.scores import Matching

COLOURS = ((200, 10, 10), (10, 200, 10), (10, 10, 200))
NAMES = ("red", "green", "blue")
TABLE = "index,name\n1,red\n2,green\n3,blue\n"
HEIGHT, WIDTH = 72, 96


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    spec = with_score_map(tiny_spec())
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", spec=spec)


def scene(seed):
    """(H, W) indices of classes in rectangles, and a picture in their colours."""
    rng = np.random.default_rng(seed)
    classes = np.full((HEIGHT, WIDTH), seed % 3)
    for _ in range(3):
        top, left = rng.integers(0, HEIGHT - 20), rng.integers(0, WIDTH - 30)
        classes[top : top + rng.integers(20, 50), left : left + rng.integers(30, 60)] = rng.integers(3)
    return classes, np.array(COLOURS, np.uint8)[classes]


def answers_by_hand(image):
    """(H, W) classes: the mean colour of the 24x32 window around each cell of 8 pixels, interpolated, the largest."""
    rows, columns = (HEIGHT - 24) // 8 + 1, (WIDTH - 32) // 8 + 1
    means = np.empty((rows, columns, 3))
    for row, column in np.ndindex(rows, columns):
        means[row, column] = image[8 * row : 8 * row + 24, 8 * column : 8 * column + 32].mean((0, 1))
    v = np.interp(np.arange(HEIGHT), 11.5 + 8 * np.arange(rows), np.arange(rows))
    u = np.interp(np.arange(WIDTH), 15.5 + 8 * np.arange(columns), np.arange(columns))
    row, column = (np.minimum(np.floor(x).astype(int), n - 2) for x, n in ((v, rows), (u, columns)))
    y, x = (v - row)[:, None, None], (u - column)[None, :, None]
    corners = [means[np.ix_(row + i, column + j)] for i in (0, 1) for j in (0, 1)]
    return ((corners[0] * (1 - x) + corners[1] * x) * (1 - y) + (corners[2] * (1 - x) + corners[3] * x) * y).argmax(2)


def ious_by_hand(pairs):
    """Of each class over all pairs (truth, answers), None where it is nowhere."""
    found = []
    for k in range(3):
        both = sum(((truth == k) & (answers == k)).sum() for truth, answers in pairs)
        either = sum(((truth == k) | (answers == k)).sum() for truth, answers in pairs)
        found.append(both / either if either else None)
    return found


def write_masks(folder, named):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.csv").write_text(TABLE)
    for name, classes in named.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((classes + 1).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def write_photos(folder, seeds):
    for seed in seeds:
        (folder / NAMES[seed % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(seed)[1]).save(folder / NAMES[seed % 3] / f"{seed:02}.png")
    return folder


def test_figures_of_a_folder_are_those_of_sliding_windows_by_hand(tmp_path, model, capsys):
    photos = write_photos(tmp_path / "photos", range(7))
    masks = write_masks(tmp_path / "masks", {f"{NAMES[seed % 3]}/{seed:02}": scene(seed)[0] for seed in range(6)})

    code, report, _ = run(tmp_path, model, "--images", photos, "--masks", masks)

    pairs = [(classes, answers_by_hand(image)) for classes, image in map(scene, range(6))]
    whole = [(classes, np.full_like(classes, image.mean((0, 1)).argmax())) for classes, image in map(scene, range(6))]
    found = report["masks"]
    assert code == EXIT_OK
    assert (found["images"], found["unmasked"], found["unusable"]) == (6, 1, 0)
    assert (found["pixels"], found["left_out"]) == (6 * HEIGHT * WIDTH, 0)
    for name, expected in (("label_map", pairs), ("whole_image", whole)):
        ious = [one["iou"] for one in found[name]["classes"]]
        assert [one["name"] for one in found[name]["classes"]] == list(NAMES)
        np.testing.assert_allclose(ious, ious_by_hand(expected), atol=2e-4)  # float32 decides ties otherwise
        assert found[name]["mean_iou"] == pytest.approx(np.mean(ious_by_hand(expected)), abs=2e-4)
        right = np.mean([(truth == answers).mean() for truth, answers in expected])
        assert found[name]["pixel_accuracy"] == pytest.approx(right, abs=2e-4)
    assert found["label_map"]["mean_iou"] > found["whole_image"]["mean_iou"]
    printed = capsys.readouterr().out
    assert f"mean IoU {found['label_map']['mean_iou']:.3f} over 6 images" in printed
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert not page.open
    assert len(page.sources) >= 4


def test_a_frame_of_a_bag_has_the_mask_of_its_stamp(tmp_path, model):
    frames = [("/camera/image_raw", START_NS + i, tiny_bag.raw(scene(i)[1], START_NS + i)) for i in range(4)]
    bag = tiny_bag.write_bag(tmp_path / "bag", frames)
    named = {f"camera/image_raw/{START_NS + 1}": scene(1)[0], f"{START_NS + 2}": scene(2)[0]}

    code, report, _ = run(
        tmp_path, model, "--bag", bag, "--labels", "", "--no-video", "--masks", write_masks(tmp_path / "masks", named)
    )

    pairs = [(classes, answers_by_hand(image)) for classes, image in map(scene, (1, 2))]
    found = report["masks"]
    assert code == EXIT_OK
    assert (found["images"], found["unmasked"]) == (2, 2)
    np.testing.assert_allclose([c["iou"] for c in found["label_map"]["classes"]], ious_by_hand(pairs), atol=2e-4)


def test_masks_of_several_bags_are_told_apart_by_the_bags_names_and_scored_together(tmp_path, model, capsys):
    bags, masks, pairs = [], {}, []
    for number, seeds in enumerate(((0, 1), (2, 3, 4))):  # with frames of the same stamps
        frames = [("/image", START_NS + i, tiny_bag.raw(scene(seed)[1], START_NS + i)) for i, seed in enumerate(seeds)]
        bags.append(tiny_bag.write_bag(tmp_path / f"drive{number}", frames))
        masks |= {f"drive{number}/image/{START_NS + i}": scene(seed)[0] for i, seed in enumerate(seeds)}
        pairs += [(classes, answers_by_hand(image)) for classes, image in map(scene, seeds)]
    named = {
        "--labels": "",
        "--model": model,
        "--masks": write_masks(tmp_path / "masks", masks),
        "--output": tmp_path / "out",
    }
    given = [str(word) for option in named.items() for word in option]

    code = cli.main(["--bag", *map(str, bags), *given, "--no-video", "--providers", "CPUExecutionProvider"])

    found = json.loads((tmp_path / "out" / "report.json").read_text())["masks"]
    assert code == EXIT_OK
    assert (found["images"], found["unmasked"], found["pixels"]) == (5, 0, 5 * HEIGHT * WIDTH)
    np.testing.assert_allclose([c["iou"] for c in found["label_map"]["classes"]], ious_by_hand(pairs), atol=2e-4)
    right = np.mean([(truth == answers).mean() for truth, answers in pairs])
    assert found["label_map"]["pixel_accuracy"] == pytest.approx(right, abs=2e-4)
    assert f"mean IoU {found['label_map']['mean_iou']:.3f} over 5 images" in capsys.readouterr().out
    assert "Against masks" in (tmp_path / "out" / "report.html").read_text()


def test_masks_that_cannot_be_used_for_any_of_several_bags_are_one_line(tmp_path, model, capsys):
    bags = [
        tiny_bag.write_bag(tmp_path / name, [("/image", START_NS, tiny_bag.raw(scene(0)[1], START_NS))])
        for name in ("a", "b")
    ]
    (tmp_path / "masks").mkdir()

    code, _, _ = run(tmp_path, model, "--bag", *bags, "--labels", "", "--no-video", "--masks", tmp_path / "masks")

    assert code == EXIT_BAD_INPUT
    assert capsys.readouterr().err.count("classes.csv") == 1


def test_penn_fudans_masks_are_scored_with_every_other_class_as_background(tmp_path):
    spec = with_score_map(tiny_spec(("pedestrian", "grass", "sky")))
    model = write_tiny_model(tmp_path / "model.onnx", spec=spec)
    root = tmp_path / "PennFudanPed"
    for folder in (root / "PNGImages", root / "PedMasks", tmp_path / "photos" / "pedestrian"):
        folder.mkdir(parents=True)
    pairs = []
    for seed in range(4):
        classes, image = scene(seed)
        instances = (classes == 0) * (1 + np.arange(WIDTH) // 40)  # a pedestrian every 40 columns
        Image.fromarray(instances.astype(np.uint8)).save(root / "PedMasks" / f"FudanPed0000{seed}_mask.png")
        Image.fromarray(image).save(tmp_path / "photos" / "pedestrian" / f"FudanPed0000{seed}.png")
        pairs.append((classes == 0, answers_by_hand(image) == 0))

    code, report, _ = run(tmp_path, model, "--images", tmp_path / "photos", "--masks", root)

    found = report["masks"]["label_map"]
    truth, answers = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    expected = [
        (truth & answers).sum() / (truth | answers).sum(),
        (~truth & ~answers).sum() / (~truth | ~answers).sum(),
    ]
    assert code == EXIT_OK
    assert [one["name"] for one in found["classes"]] == ["pedestrian", "(any other class)"]
    np.testing.assert_allclose([one["iou"] for one in found["classes"]], expected, atol=2e-4)
    assert found["pixel_accuracy"] == pytest.approx((truth == answers).mean(), abs=2e-4)


def test_a_larger_scale_follows_the_borders_more_closely(tmp_path, model):
    photos = write_photos(tmp_path / "photos", range(3))
    masks = write_masks(tmp_path / "masks", {f"{NAMES[seed % 3]}/{seed:02}": scene(seed)[0] for seed in range(3)})

    _, plain, _ = run(tmp_path, model, "--images", photos, "--masks", masks)
    _, larger, _ = run(tmp_path, model, "--images", photos, "--masks", masks, "--mask-scale", 3)

    assert larger["masks"]["label_map"]["mean_iou"] > plain["masks"]["label_map"]["mean_iou"] + 0.02


def test_without_masks_the_report_says_nothing_of_them(tmp_path, model):
    _, report, _ = run(tmp_path, model, "--images", write_photos(tmp_path / "photos", range(3)))

    assert report["masks"] is None
    assert "Against masks" not in (tmp_path / "out" / "report.html").read_text()


def test_masks_that_belong_to_no_frame_are_an_error(tmp_path, model, capsys):
    photos = write_photos(tmp_path / "photos", range(3))

    code, report, _ = run(tmp_path, model, "--images", photos, "--masks", write_masks(tmp_path / "masks", {}))

    assert code == EXIT_BAD_INPUT
    assert report["masks"]["label_map"]["mean_iou"] is None
    assert "no frame that can be used has a mask there" in capsys.readouterr().err


@pytest.mark.parametrize("done", [0, 2])
def test_ctrl_c_while_frames_are_segmented_leaves_the_report_of_those_that_were(
    tmp_path, model, monkeypatch, capsys, done
):
    photos = write_photos(tmp_path / "photos", range(3))
    masks = write_masks(tmp_path / "masks", {f"{NAMES[seed]}/{seed:02}": scene(seed)[0] for seed in range(3)})
    segmented = segmentation.segmented
    calls = []

    def until_ctrl_c(*arguments):
        if len(calls) == done:
            raise KeyboardInterrupt
        calls.append(arguments)
        return segmented(*arguments)

    monkeypatch.setattr(segmentation, "segmented", until_ctrl_c)
    code, report, rows = run(tmp_path, model, "--images", photos, "--masks", masks)

    found = [report["masks"][key] for key in ("images", "unmasked", "unusable")]
    assert (code, report["complete"], found, rows) == (EXIT_INTERRUPTED, False, [done, 0, 0], [])
    assert report["masks"]["pixels"] == done * HEIGHT * WIDTH
    assert report["remarks"] == [f"interrupted while segmenting, after {done} of 3 frames; none is classified"]
    assert not Page((tmp_path / "out" / "report.html").read_text()).open
    assert "interrupted while segmenting" in capsys.readouterr().err


def test_ctrl_c_in_the_midst_of_an_image_counts_it_in_no_figure(tmp_path, model, monkeypatch):
    photos = write_photos(tmp_path / "photos", range(3))
    masks = write_masks(tmp_path / "masks", {f"{NAMES[seed]}/{seed:02}": scene(seed)[0] for seed in range(3)})
    confusion = Matching.confusion
    calls = []

    def until_ctrl_c(*arguments):
        calls.append(arguments)
        if len(calls) == 4:  # the whole second image
            raise KeyboardInterrupt
        return confusion(*arguments)

    monkeypatch.setattr(Matching, "confusion", until_ctrl_c)
    code, report, _ = run(tmp_path, model, "--images", photos, "--masks", masks)

    found = report["masks"]
    assert (code, found["images"], found["pixels"], found["left_out"]) == (EXIT_INTERRUPTED, 1, HEIGHT * WIDTH, 0)
    for name in ("label_map", "whole_image"):
        assert sum(one["truth_pixels"] for one in found[name]["classes"]) == HEIGHT * WIDTH


@pytest.mark.parametrize("has_masks", [True, False])
def test_ctrl_c_after_all_masks_leaves_their_figures_and_without_masks_nothing(tmp_path, model, monkeypatch, has_masks):
    def interrupted(_pipeline):
        raise KeyboardInterrupt

    photos = write_photos(tmp_path / "photos", range(3))
    masks = write_masks(tmp_path / "masks", {f"{NAMES[seed]}/{seed:02}": scene(seed)[0] for seed in range(3)})
    monkeypatch.setattr(evaluation, "_one_core_a_frame", interrupted)
    code, report, _ = run(tmp_path, model, "--images", photos, *(("--masks", masks) if has_masks else ()))

    assert code == EXIT_INTERRUPTED
    if has_masks:
        assert (report["masks"]["images"], report["remarks"]) == (3, ["interrupted after 0 of 3 frames"])
    else:
        assert report == {}


def test_a_bag_whose_masks_are_interrupted_is_reported_with_what_was_asked_beside(tmp_path, model, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    frames = [("/cam/image_raw", START_NS + n * 10**8, tiny_bag.raw(scene(n)[1], START_NS + n)) for n in range(3)]
    bag = tiny_bag.write_bag(tmp_path / "drive", frames)
    masks = write_masks(tmp_path / "masks", {f"cam/image_raw/{START_NS}": scene(0)[0]})
    monkeypatch.setattr(segmentation, "segmented", interrupted)
    asked = ("--labels", "", "--no-video", "--results-bag", "reference")
    code, report, rows = run(tmp_path, model, "--bag", bag, "--masks", masks, *asked)

    assert (code, report["complete"], rows) == (EXIT_INTERRUPTED, False, [])
    assert not (tmp_path / "out" / "results").exists()
    assert "results " not in capsys.readouterr().out


def test_a_frame_that_cannot_be_used_costs_no_other(tmp_path, model):
    photos = write_photos(tmp_path / "photos", range(2))
    (photos / "green" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    masks = write_masks(tmp_path / "masks", {"00": scene(0)[0], "01": scene(1)[0]})

    _, report, _ = run(tmp_path, model, "--images", photos, "--masks", masks)

    assert (report["masks"]["images"], report["masks"]["unusable"]) == (1, 1)


@pytest.mark.parametrize(
    ("classes", "arguments", "complaint"),
    [
        (scene(0)[0][:-1], (), "00.png: has 96x71 pixels, its image 96x72"),
        (scene(0)[0] + 7, (), "which the class table does not name"),
        (scene(0)[0], ("--mask-scale", 0), "--mask-scale is 0.0; choose a number above 0"),
        (scene(0)[0], ("--masks", "/nowhere"), "/nowhere: there is no such folder of masks"),
    ],
)
def test_masks_that_cannot_be_used_are_one_line_before_anything_runs(
    tmp_path, model, capsys, classes, arguments, complaint
):
    photos = write_photos(tmp_path / "photos", range(1))
    masks = write_masks(tmp_path / "masks", {"00": classes})

    code, report, _ = run(tmp_path, model, "--images", photos, "--masks", masks, *arguments)

    error = capsys.readouterr().err
    assert (code, report) == (EXIT_BAD_INPUT, {})
    assert complaint in error
    assert len([line for line in error.splitlines() if line.startswith("error:")]) == 1


def test_one_mask_for_two_images_is_refused(tmp_path, model, capsys):
    photos = write_photos(tmp_path / "photos", range(2))
    (photos / "green" / "01.png").rename(photos / "green" / "00.png")

    code, _, _ = run(
        tmp_path, model, "--images", photos, "--masks", write_masks(tmp_path / "masks", {"00": scene(0)[0]})
    )

    assert code == EXIT_BAD_INPUT
    assert "is the mask of both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (tiny_spec(), "has no score map: its network is not convolutional throughout"),
        (with_score_map(as_multilabel(tiny_spec(), 0.5, 0.5, 0.5)), "--masks is for one class a pixel, this model is"),
        (with_score_map(tiny_spec(("cat", "dog", "cow"))), "none of its concepts (red, green, blue) is a class of the"),
    ],
)
def test_a_model_that_cannot_be_compared_is_refused_in_one_line(tmp_path, capsys, spec, complaint):
    model = write_tiny_model(tmp_path / "other.onnx", spec=spec)
    photos = tmp_path / "photos"
    for name in spec.class_names:
        (photos / name).mkdir(parents=True)
        Image.fromarray(scene(0)[1]).save(photos / name / "00.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,{'classes' if spec.task == 'multilabel' else 'class'}\n{spec.class_names[0]}/00.png,\n")
    given = ["--labels", labels] if spec.task == "multilabel" else []

    code, _, _ = run(
        tmp_path, model, "--images", photos, *given, "--masks", write_masks(tmp_path / "m", {"00": scene(0)[0]})
    )

    assert code == EXIT_BAD_INPUT
    assert complaint in capsys.readouterr().err
