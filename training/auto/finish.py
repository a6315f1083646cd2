"""What was chosen, trained on the whole training part, exported, timed, and scored once on images kept for the end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnn_perception.errors import DataError, one_line, printable
from training import checkpoint, distributed, evaluate, scored_tests, train
from training.auto import deployment
from training.auto.asked import Precision
from training.auto.budget import TimeUp, at_most
from training.evaluate import Loading
from training.export import export
from training.graphs.parity import ParityError
from training.graphs.quantise import AccuracyError, Reduction
from training.report import model_file
from training.scoring.scores import cell
from training.tasks.by_name import task_of

RUN = "final"
MODEL = "model.onnx"
_ATTEMPTS = 4
_LEAST_S = 5.0
"""Of one attempt; there are several, for a model is worth more than the seconds beyond the plan."""


@dataclass(frozen=True)
class Deployed:
    """The model file that is left.

    Attributes:
        latency_ms: Of an image.
        score: Of the test part, or of the validation part where there is none, as a table shows it.
        part: Which of them.
        images: How many they are.
        shortened: How many epochs there was time for; None for all.
        missed: Why it is not in the precision that was asked for; empty where it is.
    """

    latency_ms: float
    score: str
    part: str
    images: int
    shortened: int | None
    missed: str


def trained(folder: Path, settings: Mapping[str, Any], seconds: float) -> int | None:
    """Trains what was chosen, as `python -m training.train` does, within some time.

    Args:
        folder: Of the search; the run is in its folder `final`, and goes on if it has begun.
        settings: Of training.train.
        seconds: After which the training ends with the epoch that was finished.

    Returns:
        How many epochs there was time for; None for all.

    Raises:
        DataError: If there was time for no epoch.
    """
    run = folder / RUN
    report = run / "report.json"
    if not report.is_file():
        _train_within(run, settings, max(seconds, _LEAST_S))
    done = json.loads(report.read_text())
    wanted = int(done["config"]["epochs"])
    return int(done["epochs"]) if done["config"]["mode"] != "probe" and done["epochs"] < wanted else None


def _train_within(run: Path, settings: Mapping[str, Any], seconds: float) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            with at_most(2**attempt * seconds):
                _train(run, settings)
        except TimeUp:
            if _give_up_rest(run / "last.pt"):
                _train(run, settings)
                return
            print("its first epoch takes longer than planned: it goes on beyond its time, for a model", flush=True)
        else:
            return
    raise DataError(f"{run}: time was up before its first epoch was over; the same command goes on from there")


def _train(run: Path, settings: Mapping[str, Any]) -> None:
    if (run / "last.pt").is_file() and (run / "config.json").is_file():
        train.train({"output": str(run), "resume": True})
        return
    if run.exists():  # ended before its first checkpoint
        shutil.rmtree(run)
    train.train({**settings, "output": str(run), "baselines": "none"})


def _give_up_rest(path: Path) -> bool:
    """Has a run take its last finished epoch for its last; returns whether there is one."""
    if not path.is_file():
        return False
    saved = checkpoint.load(path)
    progress = dict((saved.resume or {}).get("progress", {}))
    if not progress.get("history"):
        return bool(saved.training["mode"] == "probe")
    progress |= {"epoch": saved.config["epochs"], "batch": 0, "images": 0, "loss_sum": 0.0, "hits": 0.0}
    checkpoint.save(path, dataclasses.replace(saved, resume={**(saved.resume or {}), "progress": progress}))
    return True


def exported(folder: Path, precision: Precision, missed: str = "") -> str:
    """Writes the verified model file of the run, in float32 where the precision costs too much.

    Args:
        folder: Of the search.
        precision: That was asked for.
        missed: Why the folds have shown already that it costs too much; empty where they have not.

    Returns:
        Why it is not in the precision that was asked for; empty where it is.
    """
    saved = checkpoint.load(folder / RUN / "best.pt")
    if precision != "fp32" and not missed:
        try:
            spec = export(saved, folder / MODEL, reduction=Reduction(precision))
        except (AccuracyError, ParityError) as error:
            missed = one_line(error, 200)
        else:
            print(model_file.in_words(spec, folder / MODEL))
            return ""
    spec = export(saved, folder / MODEL)
    print(model_file.in_words(spec, folder / MODEL))
    return missed


def deployed(folder: Path, sources: tuple[Path, ...], shortened: int | None, missed: str, device: str) -> Deployed:
    """Times the model file, and scores its run on the test part, once, or reads what it had on the validation part."""
    latency_ms = deployment.latencies_ms({"model": folder / MODEL})["model"]
    report = json.loads((folder / RUN / "report.json").read_text())
    if "test" in report:
        part, figures = "test", _test_figures(folder / RUN / "best.pt", sources, device)
    else:
        part, figures = "val", report["val"]
    metric = task_of(checkpoint.load(folder / RUN / "best.pt").task).metric
    return Deployed(latency_ms, cell(figures, metric), part, figures["images"], shortened, missed)


def _test_figures(best: Path, sources: tuple[Path, ...], device: str) -> dict[str, Any]:
    loading = Loading(32, 0, distributed.chosen_device(device))
    with torch.random.fork_rng(devices=[]):
        report = evaluate.evaluate([best], sources, "test", ten_crop=False, loading=loading)
    for line in scored_tests.note([best], sources, report["data_sha256"]):
        print(printable(line))
    found: dict[str, Any] = next(iter(report["scores"].values()))
    return found


def clean(folder: Path) -> None:
    """Removes the model files that were only timed."""
    shutil.rmtree(folder / "files", ignore_errors=True)
