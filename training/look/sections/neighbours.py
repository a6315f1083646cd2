"""What looks alike to the network: nearest images in its last hidden layer, a map of all, and what stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.manifold import TSNE, trustworthiness

from cnn_perception.image.messages import RgbImage, read_image
from training.data.records import Sample
from training.look.drawing import GREY, RIGHT, WRONG, framed, square
from training.look.methods.nearest import FAR, Metric, Nearest, far, nearest, votes
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.subject import Shown, Subject
from training.report import figures
from training.tasks.by_name import task_of
from training.tasks.scaling import in_units

Numbers = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SHOWN = 6
"""Neighbours of an image that are shown. Source: Krizhevsky, Sutskever and Hinton 2012, figure 4."""
ASKED = 10
"""Neighbours by which outliers and labels are judged."""
AGAINST = 0.8
"""Share of an image's neighbours that another label must have before its own is doubted."""
MOST_LISTED = 12
_FEWEST_IMAGES = 4
_COMPONENTS = 50
_TRUSTED = 5
_FEWEST_MAPPED = 3 * _TRUSTED
_MOST_MAPPED = 2000
"""Images on the plane: whether it can be trusted is judged by the distances of all pairs, 32 MB of these."""
_MOST_COLOURS = 10
_SIDE_PX = 112
_METRICS: Mapping[Metric, str] = {"euclidean": "Euclidean distance", "cosine": "cosine"}

_INTRO = (
    f"Images as the last hidden layer sees them: the {SHOWN} training images nearest to a picture (Krizhevsky, "
    "Sutskever and Hinton 2012), framed in green where the label agrees and in red where not; and all images on a "
    "plane. An image far from all others may be damaged or show something else; one whose neighbours have another "
    "label may be labelled wrongly. An image is never its own neighbour, but frames of one recording are each other's."
)


@dataclass(frozen=True, eq=False)
class _Labels:
    """What the n images of the survey are labelled as.

    Attributes:
        texts: A text each.
        names: The different texts.
        codes: (n,) which of them; None for numbers, whose images have no label in common.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    codes: Rows | None


@dataclass(frozen=True, eq=False)
class _Findings:
    """What stands out, by rows of the survey.

    Attributes:
        k: Neighbours that were asked.
        near: The k nearest of each image, Euclidean.
        scores: (n,) modified z-score of the distance to the k-th.
        outliers: Those that are far, the farthest first.
        doubted: Those whose neighbours have another label, the most outvoted first.
    """

    k: int
    near: Nearest
    scores: Numbers
    outliers: Rows
    doubted: Rows


def look(subject: Subject) -> Section:
    """Shows the neighbours of the shown images, a map of all, outliers and label disagreements.

    Raises:
        CannotLookError: If there are fewer than four images.
    """
    samples = subject.survey.samples
    if len(samples) < _FEWEST_IMAGES:
        raise CannotLookError(f"{len(samples)} images have few neighbours; it needs at least {_FEWEST_IMAGES}")
    labels = _labels(subject, samples)
    found = _findings(subject.survey.embeddings, labels.codes)
    shown, shown_facts = _of_shown(subject, labels)
    plane, plane_facts = _plane(subject, labels, found)
    return Section(
        intro=_INTRO,
        blocks=(*shown, plane, *_outliers(subject, labels, found), *_doubts(subject, labels, found)),
        facts={"shown": shown_facts, "map": plane_facts, "judged_by_neighbours": found.k}
        | {"outliers": _named(samples, found.outliers), "label_disagreements": _named(samples, found.doubted)},
    )


def _labels(subject: Subject, samples: Sequence[Sample]) -> _Labels:
    task = task_of(subject.checkpoint.task)
    texts = tuple(task.label_text(sample, subject.checkpoint) or "none" for sample in samples)
    if not task.has_probabilities:
        return _Labels(texts, (), None)
    names, codes = np.unique(texts, return_inverse=True)
    return _Labels(texts, tuple(names.tolist()), codes.astype(np.int64))


def _findings(embeddings: Numbers, codes: Rows | None) -> _Findings:
    k = min(ASKED, len(embeddings) - 2)
    near = nearest(embeddings, embeddings, k, "euclidean", np.arange(len(embeddings)))
    scores = far(near.distances[:, -1])
    order = np.argsort(-scores, kind="stable")
    doubted = np.empty(0, np.int64)
    if codes is not None:
        asked = votes(codes, near.rows)
        against = np.argsort(-asked.other_share, kind="stable")
        doubted = against[asked.other_share[against] >= AGAINST]
    return _Findings(k, near, scores, order[scores[order] > FAR], doubted)


def _named(samples: Sequence[Sample], rows: Rows) -> list[str]:
    return [str(samples[row].path) for row in rows]


# the neighbours of the pictures that are shown


def _of_shown(subject: Subject, labels: _Labels) -> tuple[list[Block], dict[str, Any]]:
    samples = subject.survey.samples
    pool = np.flatnonzero([sample.part == "train" for sample in samples])
    if len(pool) <= SHOWN:
        pool = np.arange(len(samples))
    embeddings = _embeddings(subject, subject.shown)
    row_of = {sample.path: row for row, sample in enumerate(samples)}
    itself = np.array([row_of.get(one.path, -1) for one in subject.shown])
    left_out = np.array([int(np.flatnonzero(pool == row)[0]) if row in pool else -1 for row in itself])
    count = min(SHOWN, len(pool) - 1)
    blocks: list[Block] = []
    facts: dict[str, Any] = {}
    for metric, words in _METRICS.items():
        near = nearest(embeddings, subject.survey.embeddings[pool], count, metric, left_out)
        for index, one in enumerate(subject.shown):
            rows = pool[near.rows[index]]
            own = labels.texts[itself[index]] if itself[index] >= 0 else None
            name = f"{index + 1}_{metric}"
            block = _neighbours(subject, labels, one.path, own, rows, near.distances[index], name)
            agreeing = sum(labels.texts[row] == own for row in rows)
            said = "" if own is None or labels.codes is None else f": {agreeing} of {count} have its label"
            blocks.append(Block(f"{one.path.name}, by {words}{said}", pictures=block, width=_SIDE_PX))
            facts.setdefault(str(one.path), {})[metric] = _named(samples, rows)
    per_image = [blocks[start :: len(subject.shown)] for start in range(len(subject.shown))]
    return [block for pair in per_image for block in pair], facts


@torch.inference_mode()
def _embeddings(subject: Subject, shown: Sequence[Shown]) -> Numbers:
    network = subject.cut(subject.embedding)
    found = [network(one.image[None]).flatten(1).float().cpu().numpy() for one in shown]
    return np.concatenate(found, dtype=np.float32)


def _neighbours(
    subject: Subject,
    labels: _Labels,
    path: Path,
    own: str | None,
    rows: Rows,
    distances: Numbers,
    name: str,
) -> tuple[Picture, ...]:
    first = Picture(name, _thumbnail(path), own or "not among the images")
    return (first, *(
        Picture(
            f"{name}_{place}",
            framed(_thumbnail_of(subject, row), _color(labels, labels.texts[row], own)),
            f"{labels.texts[row]} · {distance:.3g}",
        )
        for place, (row, distance) in enumerate(zip(rows, distances, strict=True), 1)
    ))  # fmt: skip


def _color(labels: _Labels, label: str, own: str | None) -> tuple[int, int, int]:
    if own is None or labels.codes is None:
        return GREY
    return RIGHT if label == own else WRONG


def _thumbnail_of(subject: Subject, row: int) -> RgbImage:
    return _thumbnail(subject.survey.samples[row].path)


def _thumbnail(path: Path) -> RgbImage:
    return square(read_image(path), _SIDE_PX)


# all images on a plane


def _plane(subject: Subject, labels: _Labels, found: _Findings) -> tuple[Block, dict[str, Any]]:
    count = len(subject.survey.embeddings)
    rows = np.linspace(0, count - 1, min(count, _MOST_MAPPED)).round().astype(np.int64)
    embeddings = subject.survey.embeddings[rows].astype(np.float64)
    components = principal_components(embeddings, _COMPONENTS)
    maps = {"principal components (PCA)": components[:, :2]}
    if len(embeddings) >= _FEWEST_MAPPED and components.any():  # images that are all alike have no neighbours to show
        perplexity = min(30.0, (len(embeddings) - 1) / 3)
        tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=subject.options.seed)
        maps["t-SNE"] = tsne.fit_transform(components.astype(np.float32)).astype(np.float64)
    trusted = {name: _trust(embeddings, places) for name, places in maps.items()}
    panels = {_title(name, trusted[name]): places for name, places in maps.items()}
    marked = {"far from all others": found.outliers, "neighbours disagree": found.doubted}
    png = figures.points_of_images(panels, _among(rows, _groups(labels)), _among(rows, marked), _values(subject, rows))
    note = (
        f"{len(embeddings)} images. Trustworthiness (Venna and Kaski 2001) is 1 where neighbours on the plane are "
        "neighbours in the layer, too; distances between far groups, and the sizes of groups, say nothing in t-SNE."
    )
    facts = {name: {"trustworthiness": value} for name, value in trusted.items()}
    return Block("All images on a plane", note, (Picture("map", png),), width=0), facts


def principal_components(points: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Returns points (n, D) in the coordinates of largest variance, (n, 2) at least, (n, count) at most."""
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    scores = (left * sizes)[:, :count]
    return np.pad(scores, ((0, 0), (0, max(2 - scores.shape[1], 0))))


def _trust(embeddings: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> float | None:
    if len(embeddings) < _FEWEST_MAPPED:
        return None
    return round(float(trustworthiness(embeddings, places, n_neighbors=_TRUSTED)), 4)


def _title(name: str, trusted: float | None) -> str:
    return name if trusted is None else f"{name}, trustworthiness {trusted:.2f}"


def _groups(labels: _Labels) -> dict[str, Rows]:
    """Returns the rows of the most frequent labels, and of the others together."""
    if labels.codes is None:
        return {}
    counts = np.bincount(labels.codes, minlength=len(labels.names))
    order = np.argsort(-counts, kind="stable")
    most = order if len(order) <= _MOST_COLOURS else order[: _MOST_COLOURS - 1]
    groups = {labels.names[code]: np.flatnonzero(labels.codes == code) for code in sorted(most)}
    if len(most) < len(order):
        groups[f"{len(order) - len(most)} others"] = np.flatnonzero(~np.isin(labels.codes, most))
    return groups


def _among(rows: Rows, groups: Mapping[str, Rows]) -> dict[str, Rows]:
    """Returns the places in `rows` of those of each group that are among them."""
    return {name: np.flatnonzero(np.isin(rows, group)) for name, group in groups.items()}


def _values(subject: Subject, rows: Rows) -> tuple[str, npt.NDArray[np.float64]] | None:
    """Returns the first number of some images in its unit, for a network that gives numbers."""
    saved = subject.checkpoint
    if task_of(saved.task).has_probabilities:
        return None
    numbers = in_units(np.array([sample.values for sample in subject.survey.samples]), saved.scaling)
    return f"{saved.class_names[0]} {saved.units[0]}".strip(), numbers[rows, 0]


# what stands out


def _outliers(subject: Subject, labels: _Labels, found: _Findings) -> list[Block]:
    pictures = tuple(
        Picture(
            f"far_{place}",
            _thumbnail_of(subject, row),
            f"{labels.texts[row]}: {_path(subject, row)}, {found.scores[row]:.1f}",
        )
        for place, row in enumerate(found.outliers[:MOST_LISTED], 1)
    )
    note = (
        f"{len(found.outliers)} of {len(labels.texts)} images are farther from their {_ordinal(found.k)} neighbour "
        f"than is usual (modified z-score above {FAR}, Iglewicz and Hoaglin 1993){_first(len(found.outliers))}."
    )
    return [Block("Far from all others", note, pictures, _SIDE_PX)]


def _doubts(subject: Subject, labels: _Labels, found: _Findings) -> list[Block]:
    if labels.codes is None:
        return []
    asked = votes(labels.codes, found.near.rows)
    pictures = tuple(
        Picture(
            f"doubted_{place}",
            framed(_thumbnail_of(subject, row), WRONG),
            f"labelled {labels.texts[row]}, {asked.other_share[row]:.0%} of its neighbours are "
            f"{labels.names[asked.other[row]]}: {_path(subject, row)}",
        )
        for place, row in enumerate(found.doubted[:MOST_LISTED], 1)
    )
    note = (
        f"{len(found.doubted)} of {len(labels.texts)} images have a label that at least {AGAINST:.0%} of their "
        f"{found.k} nearest images contradict with one other{_first(len(found.doubted))}."
    )
    return [Block("Labels that the neighbours contradict", note, pictures, _SIDE_PX)]


def _first(count: int) -> str:
    return f"; the first {MOST_LISTED} are shown, look.json lists all" if count > MOST_LISTED else ""


def _ordinal(number: int) -> str:
    return {1: "nearest", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _path(subject: Subject, row: int) -> str:
    path: Path = subject.survey.samples[row].path
    return path.name
