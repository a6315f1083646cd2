"""evaluate_bag as tests run it: a bag of plain colours, its labels, and what the run leaves."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import tiny_bag
from tiny_bag import BLUE, GREEN, RED, START_NS, flat

from cnn_perception.evaluation import cli

SECOND = 10**9


COLOURS = [RED, RED, RED, GREEN, GREEN, GREEN, BLUE, BLUE, BLUE, BLUE]


LABELS = "start_s,end_s,class\n0,0.3,red\n0.3,0.7,green\n0.7,0.9,blue\n"
"""Ten frames at 10 Hz: frame 6 (blue) is called green, so 8 of 9 are right; frame 9 is unlabelled."""


def colour_bag(path: Path, colours=COLOURS, extra=(), delay_ns: int = 0) -> Path:
    frames = []
    for index, colour in enumerate(colours):
        time_ns = START_NS + index * SECOND // 10
        frames.append(("/camera/image_raw", time_ns + delay_ns, tiny_bag.raw(flat(colour), time_ns)))
    return tiny_bag.write_bag(path, [*extra, *frames])


def run(folder: Path, model: Path, *arguments: object) -> tuple[int, dict, list[dict[str, str]]]:
    """Evaluates into folder/out; without --labels in the arguments, LABELS are used."""
    given = [str(argument) for argument in arguments]
    if not {"--labels", "--images"} & set(given):
        (folder / "labels.csv").write_text(LABELS)
        given += ["--labels", str(folder / "labels.csv")]
    output = folder / "out"
    command = ["--model", str(model), "--output", str(output), "--providers", "CPUExecutionProvider", *given]
    code = cli.main(command)
    if not (output / "report.json").is_file():
        return code, {}, []
    with (output / "predictions.csv").open() as stream:
        return code, json.loads((output / "report.json").read_text()), list(csv.DictReader(stream))


class Page(HTMLParser):
    """Collects the sources of pictures and scripts, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        assert tag not in {"script", "link"}
        self.sources += [value for name, value in attributes if name == "src"]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"rect", "i"} or self.open[-1] == tag:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass
