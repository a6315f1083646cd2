"""Evaluates several bags, each in a process of its own, and leaves one report of all beside the report of each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.commands import despite_ctrl_c
from cnn_perception.comparison.baseline import baseline_of_bag
from cnn_perception.comparison.report.files import NAMES as COMPARISON_FILES
from cnn_perception.comparison.report.pictures import pictures_of_bags
from cnn_perception.errors import ConfigError, printable
from cnn_perception.evaluation.baseline.comparing import Compared, compare_into, remove_comparison
from cnn_perception.evaluation.evaluation import (
    RECORD,
    RECORD_FIELDS,
    RECORD_OF_BAGS,
    RESULTS,
    remove_results,
)
from cnn_perception.evaluation.options import EvaluationOptions
from cnn_perception.evaluation.report_record import Report, Target, write_text
from cnn_perception.evaluation.several.bag_labels import BagLabels, labels_of_bags
from cnn_perception.evaluation.several.one_bag import BagResult, evaluate_one
from cnn_perception.evaluation.several.page import render_bags
from cnn_perception.evaluation.several.pooled import PooledReport, pool
from cnn_perception.evaluation.several.sources import BagSource, FoundBags
from cnn_perception.files import has_fields, require_other, require_outside, require_unused, require_writable
from cnn_perception.jobs.outcome import INTERRUPTED, Outcome
from cnn_perception.jobs.processes import Processes
from cnn_perception.jobs.ray_cluster import LOCAL, RayCluster
from cnn_perception.label_table import is_table
from cnn_perception.masks.folder import read_masks
from cnn_perception.masks.segmentation import MaskTally
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.registry import GATES

BAGS_CSV = "bags.csv"
_RESULTS = (RECORD, "report.html", BAGS_CSV)


@dataclass(frozen=True)
class SeveralOptions:
    """How several bags are evaluated, and what is required of each.

    Attributes:
        jobs: How many at once; each has its share of this machine's cores.
        ray: Address of a Ray cluster that evaluates them, or `local`; empty for processes of this machine.
        each: Limits that each bag has to reach, by the option of the gate.

    Raises:
        ConfigError: If a value is out of range.
    """

    jobs: int = 1
    ray: str = ""
    each: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError(f"--jobs is {self.jobs}; choose 1 or more")
        for gate in GATES:
            limit = self.each.get(gate.option)
            if limit is not None and not gate.accepts(limit):
                raise ConfigError(f"--{gate.option.replace('_', '-')}-each is {limit}; choose {gate.limits}")

    @property
    def target(self) -> Target | None:
        """What each bag has to reach; None if nothing."""
        found = (Target(gate.metric, self.each[gate.option]) for gate in GATES if gate.option in self.each)
        return next(found, None)


def evaluate_several(found: FoundBags, options: EvaluationOptions, several: SeveralOptions) -> PooledReport:
    """Evaluates every bag and writes report.json, report.html and bags.csv, and a folder with the report of each.

    Args:
        found: The bags.
        options: Of all; the bag is the first of them.
        several: How they are evaluated.

    Raises:
        ModelError: If the model file cannot be used.
        ConfigError: If an option does not fit, or the output folder cannot be made or written to.
        DataError: If the labels cannot be used, not one bag can be evaluated, or a file cannot be written.
    """
    labels = labels_of_bags(options.labels, found.bags)
    _require_own(found, options)
    workers = _share(len(found.bags), several, options)
    parts = [_part(source, labels, options, several, workers) for source in found.bags]
    chosen = _require_fit(parts[0], options)
    parts = [_run_as(chosen, part) for part in parts]
    if several.ray not in ("", LOCAL):  # its machines work in folders of their own
        parts = [_absolute(part) for part in parts]
    _require_kept(options, parts)
    _make(options.output)
    _remove_earlier(options.output, [part.output for part in parts])
    started_s = time.perf_counter()
    outcomes = _outcomes(found.bags, parts, several)
    duration_s = time.perf_counter() - started_s

    def record(is_interrupted: bool) -> PooledReport:
        made = pool(found.bags, outcomes, options, several.target, _unused(found, labels), duration_s)
        made = dataclasses.replace(made, interrupted=made.interrupted or is_interrupted)
        _write(made, outcomes, options.output)
        return made

    pooled = despite_ctrl_c(record)
    if options.baseline is None or pooled.interrupted:
        return pooled
    try:
        return dataclasses.replace(pooled, compared=_compare(outcomes, options, pooled.report))
    except KeyboardInterrupt:
        return dataclasses.replace(pooled, interrupted=True)


def _compare(outcomes: Sequence[Outcome[BagResult]], options: EvaluationOptions, report: Report) -> Compared:
    """Compares the frames of all bags, each of which its own process has answered with both models."""
    results = [outcome.result for outcome in outcomes if outcome.result]
    parts = [result.answered for result in results if result.answered]
    return compare_into(
        options.output,
        parts,
        lambda changed: pictures_of_bags(changed, options.overrides),
        source=f"{len(parts)} bags",
        max_loss=options.max_loss,
        on_doubt=options.on_doubt,
        missing=() if report.complete else report.remarks,
    )


def _part(
    source: BagSource, labels: BagLabels, options: EvaluationOptions, several: SeveralOptions, workers: int
) -> EvaluationOptions:
    """Returns the options of one bag: what is required of all together is not required of it."""
    limits: dict[str, float | None] = {gate.option: several.each.get(gate.option) for gate in GATES}
    return dataclasses.replace(
        options,
        bag=source.path,
        labels=labels.of(source),
        output=options.output / source.name,
        workers=workers,
        is_one_of_several=True,
        baseline=options.baseline and baseline_of_bag(options.baseline, source.name),
        needs_all_labels=options.target is not None,
        **limits,  # type: ignore[arg-type]
    )


def _absolute(part: EvaluationOptions) -> EvaluationOptions:
    """Returns the options of a bag with paths that are the same from any working directory."""
    is_file = is_table(part.labels)
    return dataclasses.replace(
        part,
        model=part.model.absolute(),
        bag=part.bag and part.bag.absolute(),
        output=part.output.absolute(),
        labels=str(Path(part.labels).absolute()) if is_file else part.labels,
        masks=part.masks and part.masks.absolute(),
        baseline=part.baseline and part.baseline.absolute(),
    )


def _share(bags: int, several: SeveralOptions, options: EvaluationOptions) -> int:
    """Returns how many cores one bag has: a task of Ray's has one."""
    return 1 if several.ray else max(1, options.workers // min(several.jobs, bags))


def _require_own(found: FoundBags, options: EvaluationOptions) -> None:
    """Refuses an output folder that cannot be written, in which something would be overwritten, or that is read."""
    require_writable(options.output)
    for folder in (*found.searched, *(source.path for source in found.bags)):
        require_outside(options.output, folder)
    compared = COMPARISON_FILES if options.baseline else ()
    outputs = [options.output / name for name in (*_RESULTS, *compared)]
    require_unused(outputs, options.output / RECORD, RECORD_OF_BAGS)
    for path in outputs:
        require_other(path, options.inputs)


def _require_kept(options: EvaluationOptions, parts: Sequence[EvaluationOptions]) -> None:
    """Refuses to remove what is read, such as the baseline, with the reports that an earlier run left of bags."""
    for part in parts:
        for name in RESULTS:
            require_other(part.output / name, (*part.inputs, *options.inputs))
    for bag in _earlier_names(options.output):
        for name in RESULTS:
            require_other(options.output / bag / name, options.inputs)


def _require_fit(part: EvaluationOptions, options: EvaluationOptions) -> tuple[Path, str] | None:
    """Loads the model, and opens the masks, before any process does: what is wrong with them is said once.

    Returns:
        The file and the provider that were found to be the fastest; None where none was looked for. The model itself is
        gone by then: it would take memory, of a GPU perhaps, that those who answer need.
    """
    providers, threads = tuple(options.providers), part.workers
    pipeline = Pipeline.load(options.model, SessionOptions(providers=providers, intra_op_threads=threads))
    options.require_fit(pipeline.spec)
    part.require_fit(pipeline.spec)
    if options.masks is not None:
        MaskTally(pipeline, read_masks(options.masks), options.mask_scale)
    return None if pipeline.fastest is None else (pipeline.model.path, pipeline.model.provider)


def _run_as(chosen: tuple[Path, str] | None, part: EvaluationOptions) -> EvaluationOptions:
    """Returns the options of a bag by which it is answered as all others are.

    Processes that looked for the fastest while others do would find one file here and another one there, and their
    figures would be those of no model.
    """
    if chosen is None:
        return part
    model, provider = chosen
    return dataclasses.replace(part, model=model, providers=(provider,))


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be made ({error.strerror})") from None


def _remove_earlier(output: Path, folders: Sequence[Path]) -> None:
    """Removes the reports that an earlier run left, of all bags and of each.

    One of a bag which fails now, or is not evaluated any more, would be taken for one of this run.

    Raises:
        ConfigError: If one cannot be removed.
    """
    for folder in dict.fromkeys((*folders, *(output / name for name in _earlier_names(output)))):
        if folder.is_symlink() or not has_fields(folder / RECORD, RECORD_FIELDS):
            continue
        try:
            remove_results(folder)
        except OSError as error:
            raise _not_emptied(folder, error) from None
    try:
        remove_comparison(output)
        for name in reversed(_RESULTS):  # the record, by which the others are known, comes last
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise _not_emptied(output, error) from None


def _not_emptied(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{folder}: cannot be emptied ({error.strerror}); choose another --output")


def _earlier_names(output: Path) -> list[str]:
    """Returns the names of the bags of an earlier report; none where there is none, or they are no folders' names."""
    if not has_fields(output / RECORD, RECORD_OF_BAGS):
        return []
    rows = json.loads((output / RECORD).read_bytes())["bags"]
    names = [row.get("name") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [name for name in names if isinstance(name, str) and name == Path(name).name and name not in ("", "..")]


def _outcomes(
    sources: Sequence[BagSource], parts: Sequence[EvaluationOptions], several: SeveralOptions
) -> list[Outcome[BagResult]]:
    """Returns what became of each bag, in their order; what is done is said on the error output, a line each time."""

    def tell(index: int, text: str) -> None:
        print(printable(f"{sources[index].name}: {text}"), file=sys.stderr, flush=True)

    evaluator: Processes[EvaluationOptions, BagResult] | RayCluster[EvaluationOptions, BagResult]
    if several.ray:
        cores = min(several.jobs, len(os.sched_getaffinity(0))) if several.ray == LOCAL else several.jobs
        evaluator = RayCluster(evaluate_one, parts, several.ray, cores, tell)
    else:
        evaluator = Processes(evaluate_one, parts, several.jobs, tell)
    outcomes: list[Outcome[BagResult]] = [Outcome(index, None, INTERRUPTED, 0) for index in range(len(parts))]
    with contextlib.suppress(KeyboardInterrupt):  # while one is told of; all others are ended with it
        for number, outcome in enumerate(evaluator.outcomes(), 1):
            outcomes[outcome.index] = outcome
            tell(outcome.index, f"{_in_words(outcome)} ({number} of {len(parts)} bags)")
    return outcomes


def _in_words(outcome: Outcome[BagResult]) -> str:
    if outcome.result is None:
        return f"NOT EVALUATED: {outcome.failure}"
    report = outcome.result.report
    frames = report.scores.frames
    figures = report.scores.figures(report.model.spec, report.threshold)[:1]
    shown = "".join(
        f", {one.name} {one.value:.1%}" if one.is_share else f", {one.name} {one.value:.3g}" for one in figures
    )
    ending = "" if report.complete else ", incomplete"
    return f"{frames.scored} of {frames.total} frames scored{shown}{ending}"


def _unused(found: FoundBags, labels: BagLabels) -> list[str]:
    """Returns which lines of a table are of none of the bags, in one line or none."""
    if not labels.unused:
        return []
    names = ", ".join(map(repr, labels.unused[:5]))
    return [f"{labels.text}: of none of the {len(found.bags)} bags are the lines of {names}; mend them"]


def _write(pooled: PooledReport, outcomes: Sequence[Outcome[BagResult]], output: Path) -> None:
    records = [record for outcome in outcomes if outcome.result for record in outcome.result.records]
    write_text(output / "report.json", pooled.to_json())
    write_text(output / BAGS_CSV, pooled.bags_csv())
    write_text(output / "report.html", render_bags(pooled, records))
