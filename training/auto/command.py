"""Labelled images -> the model file of a network that was chosen for them, within some minutes.

    python -m training.auto --data DIR --minutes 10 --output RUN
    python -m training.auto --data DIR --minutes 30 --max-latency-ms 20 --weights resnet50=FILE imagenet

Networks whose weights are at hand are probed, the best are fine-tuned, and small ones learn from nothing; all are
judged by cross-validation on the training part and timed as model files on this machine. What is chosen learns from
the whole training part and is exported to RUN/model.onnx; what was held out scores it once, at the end. RUN then holds
auto.json, auto.csv, accuracy_latency.png, model.onnx and final, the run itself. The same command goes on where it was
ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from cnn_perception.commands import Done, bad_input, exit_code, for_shell, program, there
from cnn_perception.errors import EXIT_BELOW_TARGET, EXIT_OK, PerceptionError, printable
from cnn_perception.files import given_name, given_path
from training import config
from training.auto.asked import OF_COMPUTING, OF_DATA, OF_INPUT, Asked, Precision
from training.auto.budget import Budget

if TYPE_CHECKING:
    from training.auto.finish import Deployed
    from training.auto.record import Record
    from training.auto.search import Search

_DRIFT = 1.1
"""By how much longer the same graph may take when it is timed once more."""
FOLDS = 5
MINUTES = 10.0
_OWN = ("output", "minutes", "max_latency_ms", "backbones", "weights", "precision", "folds")


@program("training.auto")
def main(argv: Sequence[str] | None = None) -> int:
    """Chooses as the command line says; returns the exit code."""
    started_s = time.monotonic()
    words = sys.argv[1:] if argv is None else argv
    try:
        asked = _asked(words)
    except PerceptionError as error:
        return bad_input(error)
    again = for_shell("python", "-m", "training.auto", *words)
    return exit_code(lambda: _run(asked, started_s), f"interrupted; the table so far is kept; go on with {again}")


def _asked(words: Sequence[str]) -> Asked:
    given = vars(_parser().parse_args(words))
    given.pop("resume", None)
    own = {name: given.pop(name) for name in _OWN}
    data = given.get("data") or ("data",)
    own["output"] = own["output"] or Path("runs") / f"auto_{Path(data[0]).absolute().name}"
    return Asked(given=given, **own)


def _run(asked: Asked, started_s: float) -> int:
    sources = ", ".join(map(str, asked.given["data"]))
    print(printable(f"a model for {sources}, within {asked.minutes:g} minutes, in {asked.output}"), flush=True)
    from training.auto import deployment, finish, record  # slow to import
    from training.data.sources import require_apart

    del finish  # imported here so that its time is not taken for that of the data
    require_apart(asked.output, map(Path, asked.given["data"]))

    budget = Budget(asked.seconds, started_s)
    kept = record.opened(asked.output, asked.identity())
    found = _read(asked, budget, kept)
    if not kept.chosen:
        try:
            taken = found.run()
        except deployment.TooSlow as error:
            print(printable(f"error: {error}"), file=sys.stderr)
            return Done(EXIT_BELOW_TARGET, record=asked.output / record.NAME, error=str(error))
        settings, after_s = found.final_settings(taken), found.after_s(taken)
        missed = found.files.missed(taken.candidate)
        kept.chosen = {"name": taken.candidate.name, "settings": settings, "after_s": after_s, "missed": missed}
        kept.chosen["minutes"] = asked.minutes
        kept.write()
    elif asked.minutes > kept.chosen.get("minutes", asked.minutes):
        found.budget.say(
            f"it was chosen within {kept.chosen['minutes']:g} minutes already, and more change nothing: another "
            "--output chooses anew"
        )
    return _finish(asked, found, kept)


def _read(asked: Asked, budget: Budget, kept: Record) -> Search:
    """Reads the data set once, and divides its training part."""
    from training import check
    from training.auto import record, search
    from training.data.load import DataOptions, load_folds

    chosen = config.make(**asked.of_data(), output=str(asked.output), mode="probe")
    before_s = budget.used_s
    findings = asked.output / "findings.csv"
    counts = tuple(range(asked.folds, 1, -1))
    images = load_folds(chosen.sources, DataOptions.of(chosen.to_dict()), counts, findings)
    print("\n".join(check.describe(images[0], findings)), flush=True)
    record.require_same_data(kept, images[0].sha256, images[0].where)
    found = search.Search(asked, budget, kept, images, budget.used_s - before_s)
    if len(images[1]) < asked.folds:
        found.budget.say(
            f"{len(images[1])} folds in place of {asked.folds}: the training images or groups are too few for more"
        )
    return found


def _finish(asked: Asked, found: Search, kept: Record) -> int:
    """Trains, exports and scores what was chosen, and says what to do next."""
    from training.auto import finish, table
    from training.auto.table import Line
    from training.tasks.by_name import task_of

    name = kept.chosen["name"]
    metric = task_of(found.whole.task).metric_title
    lines = [Line.of_json(row) for row in kept.rows]
    print("", *table.in_words(lines, metric, name), sep="\n", flush=True)
    table.draw(asked.output, lines, metric, name, asked.max_latency_ms)
    if not kept.final:
        found.budget.say(f"chosen: {name}; it learns from the whole training part")
        training_s = found.budget.left_s - kept.chosen["after_s"]
        shortened = finish.trained(asked.output, found.restored(kept.chosen["settings"]), training_s)
        missed = finish.exported(asked.output, asked.precision, kept.chosen.get("missed", ""))
        device = asked.given.get("device", "auto")
        left = finish.deployed(asked.output, found.sources, shortened, missed, device)
        kept.final = dataclasses.asdict(left)
        kept.write()
        finish.clean(asked.output)
    return _summarise(asked, found, name, finish.Deployed(**kept.final))


def _summarise(asked: Asked, found: Search, name: str, left: Deployed) -> int:
    from training.auto import record
    from training.tasks.by_name import task_of

    metric = task_of(found.whole.task).metric_title
    part = {"test": "the test part", "val": "the validation part"}[left.part]
    is_reduced = asked.precision != "fp32"
    nothing = "nothing but the precision" if is_reduced and left.part == "val" else "nothing"
    print()
    print(
        printable(
            f"{name}: {metric} {left.score} on the {left.images} images of {part}, by which {nothing} was chosen; "
            f"{left.latency_ms:.3g} ms an image here, {asked.precision if not left.missed else 'fp32'}"
        )
    )
    if left.shortened is not None:
        print(f"there was time for {left.shortened} epochs only; more --minutes, in another --output, may give better")
    if is_reduced and not left.missed:
        print(f"that is the network's in fp32; what the {asked.precision} file loses stands above and in the file")
    if left.missed:
        print(printable(f"not in {asked.precision}: {left.missed}"))
    print(printable(f"table and picture in {asked.output}; the run is {asked.output / 'final'}"), "next:", sep="\n")
    model = (asked.output / "model.onnx").absolute()
    print(f"  {for_shell('ros2', 'run', 'cnn_perception', 'perception_node', '--ros-args', '-p', f'model:={model}')}")
    best = asked.output / "final" / "best.pt"
    print(f"  {for_shell('python', '-m', 'training.look', '--checkpoint', best, '--output', asked.output / 'look')}")
    print(f"{found.budget.used_s:.0f} s of {found.budget.seconds:.0f} s", flush=True)
    missed = left.missed
    limit = asked.max_latency_ms
    if limit is not None and left.latency_ms > _DRIFT * limit:
        missed = f"the final file takes {left.latency_ms:.3g} ms, more than {limit:g} ms; another --output chooses anew"
        print(f"error: {missed}", file=sys.stderr)
    done = there(asked.output, "model.onnx", "auto.csv", "accuracy_latency.png", "final")
    code = EXIT_BELOW_TARGET if missed else EXIT_OK
    return Done(code, record=asked.output / record.NAME, written=done, error=missed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.auto",
        usage="%(prog)s --data DATA [DATA ...] [--minutes M] [--max-latency-ms L] [options]",
        description="Chooses a network for labelled images, and leaves its verified model file.",
        argument_default=argparse.SUPPRESS,
    )
    config.add_options(parser, ("data",))
    own = parser.add_argument_group("what is wanted")
    own.add_argument(
        "--output", type=given_path, default=None, help="folder of the results [runs/auto_ and the data's name]"
    )
    own.add_argument(
        "--minutes", type=float, default=MINUTES, help="how long it may take, each time it is started [%(default)g]"
    )
    own.add_argument("--max-latency-ms", type=float, default=None, help="longest time of an image on this machine")
    own.add_argument(
        "--precision", choices=get_args(Precision), default="fp32", help="of the model file, and what is timed [fp32]"
    )
    own.add_argument("--folds", type=int, default=FOLDS, help="of the training part, to choose by [%(default)s]")
    own.add_argument("--resume", action="store_true", help="goes on with what is in --output, as it does anyway")
    tried = parser.add_argument_group("what is tried")
    tried.add_argument(
        "--backbones",
        type=given_name,
        nargs="+",
        default=(),
        metavar="NAME",
        help="networks, named as for training.train; by default those whose weights are at hand, and small ones",
    )
    tried.add_argument(
        "--weights",
        type=given_name,
        nargs="+",
        default=(),
        metavar="WEIGHTS",
        help="files of weights, FILE or NETWORK=FILE; imagenet: torchvision and timm may download theirs; by default "
        "those that they have downloaded before",
    )
    config.add_options(parser.add_argument_group("data, as for training.train"), OF_DATA)
    config.add_options(parser.add_argument_group("images, as for training.train"), OF_INPUT)
    config.add_options(parser.add_argument_group("computing, as for training.train"), OF_COMPUTING)
    return parser
