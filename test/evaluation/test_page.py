"""Owns: that no name, path or remark can change the structure of an evaluation's page.

Oracle: the page of the same figures with harmless texts. Leaves to others: what the page says (test_evaluate), plots
(test_plots), the shared tables (test_templates).
"""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from tiny_model import as_multilabel, regression_spec, tiny_spec

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.page import Picture, render_html
from cnn_perception.evaluation.report_record import ModelRecord, Report, Target, worst_frame
from cnn_perception.evaluation.scores import score
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import ModelSpec, Task
from cnn_perception.pages import data_url
from cnn_perception.tasks.prediction import Prediction

HOSTILE = ("</script><script>alert(1)</script>", "\" onload='x' & ", "two\n<b>lines</b>", "\udcff", "{{ 1 }}")


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.texts += [value for _, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def spec_of(task: Task, names: tuple[str, ...]) -> ModelSpec:
    if task == "regression":
        return regression_spec({name: f"unit of {name}" for name in names})
    spec = tiny_spec(names)
    return as_multilabel(spec, *[0.5] * len(names)) if task == "multilabel" else spec


def answered(index: int, spec: ModelSpec, file: str) -> FrameRecord:
    """A frame of the class of that index, every other one of which is answered as the next class."""
    names = spec.class_names
    count = len(names)
    values = np.eye(count, dtype=np.float32)[(index + index % 2) % count]
    known = names[index % count]
    truths = {"multiclass": known, "multilabel": frozenset({known}), "regression": tuple(float(v) for v in values + 1)}
    prediction = Prediction(
        names,
        values,
        int(values.argmax()),
        None,
        np.empty(0, np.float32),
        task=spec.task,
        values=values,
        units=spec.units,
        thresholds=np.array(spec.thresholds, np.float32),
    )
    return FrameRecord(index, file, 0, float(index), truths[spec.task]).answered(prediction)


def page(task: Task, names: tuple[str, ...], text: str, topic: str) -> str:
    """A page on which everything that can be given from outside is one of the names, or `text`."""
    spec = spec_of(task, names)
    records = [answered(index, spec, f"{text} {index}") for index in range(12)]
    worst = tuple(worst_frame(record, spec) for record in records)
    report = Report(
        complete=False,
        remarks=(text,),
        warnings=(text,),
        source=f"/bags/{text.replace('/', '')}",
        topic=topic,
        encoding=text,
        significant_bits=0,
        labels=text,
        model=ModelRecord(text, text, text, text, spec),
        threshold=0.0,
        target=Target("top-1", 0.5),
        passed=False,
        latency={},
        frames_per_second=1.0,
        ignored={text: 2},
        scores=score(records, spec, 0.0),
        worst=worst,
    )
    url = data_url.of_image(RgbImage(np.zeros((20, 30, 3), np.uint8)))
    return render_html(report, records, [Picture(frame, url) for frame in worst], f"{text}.webm")


@pytest.mark.parametrize("topic", ["/camera", ""])
@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
@pytest.mark.parametrize("text", HOSTILE)
def test_texts_from_outside_never_change_the_structure_of_the_page(task, topic, text):
    harmless = Structure(page(task, tuple("abcde"), "x", topic))
    hostile = Structure(page(task, HOSTILE, text, topic and text).encode().decode())

    assert hostile.tags == harmless.tags
    for name in (*HOSTILE, text):
        shown = name.replace("\udcff", "\\udcff")
        assert any(shown in found for found in hostile.texts)
