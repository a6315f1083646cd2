"""The candidates one after the other, as far as the minutes reach, and the one that is taken."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.errors import DataError, PerceptionError, one_line, printable
from training import config
from training.auto import candidate as candidates
from training.auto import reference, table, trial
from training.auto.asked import OF_COMPUTING, OF_INPUT, Asked
from training.auto.budget import Budget, TimeUp, at_most
from training.auto.candidate import Candidate
from training.auto.costs import MARGIN, Plan, plans, trial_s
from training.auto.deployment import ModelFiles
from training.auto.record import Record
from training.auto.table import Line
from training.auto.trial import Fold, Trial
from training.baselines.rows import Cost, Row
from training.batches.augment import Augmentation
from training.data.records import LabelledImages
from training.data.scan import picture
from training.networks.libraries import own_module
from training.tasks.by_name import task_of

FINE_TUNED = 2
"""Networks that are fine-tuned after their probes, the best first."""
_OF_BASELINES = 0.1
"""Share of the time that methods without a network may take, which come last."""
_BASELINES = "methods without a network"
_EXTENDED = 2
"""Candidates of which all folds are tried where there is time."""
_LOOKED_AT = 32
"""Images whose size is taken for that of all."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A candidate that has answered.

    Attributes:
        candidate: It.
        epochs: Of each training.
        folds: That it has answered.
        row: Its answers.
        final_s: What is left to do if it is taken.
    """

    candidate: Candidate
    epochs: int
    folds: int
    row: Row
    final_s: float


class Search:
    """What is tried of what, and what came of it.

    Attributes:
        asked: What the user asked for.
        budget: The time.
        record: What is kept.
        whole: The data set.
        folds: Its training part, divided.
        lines: The table, by the name of the candidate.
        tried: The candidates that have answered.
        given: Settings of the data and the computing.
        files: The model files of the candidates.
    """

    def __init__(
        self,
        asked: Asked,
        budget: Budget,
        record: Record,
        images: tuple[LabelledImages, Sequence[LabelledImages]],
        read_s: float,
    ) -> None:
        self.asked = asked
        self.budget = budget
        self.record = record
        self.whole, self.folds = images
        self.lines: dict[str, Line] = {}
        self.tried: list[Tried] = []
        self._shared = {name: value for name, value in asked.given.items() if name in OF_INPUT}
        self.given = {**asked.of_data(), **{k: v for k, v in asked.given.items() if k in OF_COMPUTING}}
        self.files = ModelFiles(asked, budget, record, self.whole, self.given, read_s)

    def run(self) -> Tried:
        """Tries what there is time for, and returns what is taken.

        Raises:
            ConfigError: If there is no network to try, or the time suffices for none.
            TooSlow: If none is as fast as wanted.
        """
        weighted = candidates.with_weights(self.asked)
        probes = self._usable(candidates.probes(weighted, self.whole.task, self._shared))
        scratch = self._usable(self._from_scratch({one.backbone for one in weighted}, bool(probes)))
        if not probes and not scratch:
            raise self.files.refusal(self.lines.values())
        for number, one in enumerate(probes):
            self._try(one, len(probes) - number + (1 if scratch else 0))
        best = self._best_probes()
        images = len(self.whole.part("train"))
        tuned = self._usable([candidates.fine_tuning(one, images, self._shared) for one in best])
        for number, one in enumerate(tuned):
            self._try(one, len(tuned) - number + len(scratch))
        self._try_scratch(scratch)
        self._use_the_rest()
        self._try_baselines()
        return self._taken([*probes, *scratch])

    @property
    def sources(self) -> tuple[Path, ...]:
        """The folders and tables of the data."""
        return tuple(map(Path, config.sources_of(self.given)))

    def final_settings(self, taken: Tried) -> dict[str, Any]:
        """Returns the settings of training.train for what was taken, with what its first fold has found out."""
        own = self._own(self.record.tried.get(taken.candidate.folder, {}))
        settings = {**taken.candidate.settings, **own}
        if taken.candidate.mode != "probe" and settings.get("augment") is None:
            settings["augment"] = self._unmirrored(settings)
        settings.setdefault("workers", trial.workers_of(config.make(**{**settings, "output": "-"})))
        return settings if taken.candidate.mode == "probe" else {**settings, **trial.within(settings, taken.epochs)}

    def _unmirrored(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """The usual changes of images but the mirroring, on which no fold has decided, and nothing else may."""
        changes = Augmentation.of(config.make(**{**settings, "output": "-"}), self.whole.task, self.whole.class_names)
        usual = changes.switches if changes else frozenset()
        if "flip" in usual:
            self.budget.say(
                "images are not mirrored: there was no time to see in the training part whether left and right differ"
            )
        return tuple(sorted(usual - {"flip"}))

    def restored(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns settings that were kept as JSON, where the data lie and how is computed as the user says now.

        Raises:
            DataError: If they name a program that the user has not named: auto.json may come from anywhere.
        """
        named = {own_module.absolute(name) for name in self.asked.networks if own_module.is_own(name)}
        backbone = str(settings["backbone"])
        if own_module.is_own(backbone) and backbone not in named:
            raise DataError(
                f"{self.record.folder}: its auto.json has chosen {printable(backbone)}, which the "
                "command does not name: it is not run; give another --output to start anew"
            )
        kept = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        return {**kept, **self.given}

    def after_s(self, taken: Tried) -> float:
        """Returns what follows the training of what was taken.

        Where time ends one in epochs it is opened once more to be left, and for that the data are read again.
        """
        again_s = 0.0 if taken.candidate.mode == "probe" else self.files.read_s
        return again_s + self.files.costs[taken.candidate.graph].after_s(taken.candidate, self.whole)

    # what is tried

    def _from_scratch(self, weighted: Collection[str], others: bool) -> list[Candidate]:
        """The networks without weights: those that the user names, or small ones where they may be as good.

        Args:
            weighted: Networks that have weights.
            others: Whether any of them is tried.
        """
        named = [name for name in self.asked.backbones if name not in weighted]
        shorter = self._shorter_side()
        networks: Mapping[str, str] = candidates.SCRATCH
        if self.asked.backbones:
            networks = {candidates.label(name): name for name in named}
            for name in named:
                self.budget.say(
                    f"{name}: no weights at hand, it learns from nothing; --weights imagenet downloads published ones"
                )
        elif others and shorter > candidates.SMALL_SIDE:
            return []
        side = candidates.side_of(shorter)
        kinds = candidates.variants(self.whole.task, self._shared)
        epochs = candidates.usual_epochs(len(self.whole.part("train")))
        shared = dict(self._shared)
        if task_of(self.whole.task).least_squares:
            shared.setdefault("resize_mode", "squash")
        return [
            candidates.from_scratch(name, backbone, kind, side, epochs, shared)
            for name, backbone in networks.items()
            for kind in kinds
        ]

    def _shorter_side(self) -> float:
        samples = self.whole.part("train")
        looked = [picture(one.path) for one in samples[:: max(1, len(samples) // _LOOKED_AT)]]
        return float(statistics.median(min(image.shape[:2]) for image in looked if image is not None))

    def _usable(self, found: Sequence[Candidate]) -> list[Candidate]:
        """Those that can be exported, and are as fast as wanted; the others get a line that says why not."""
        refused = []
        for one, ended in self.files.refused(found):
            self._end(one, ended)
            refused.append(one)
        return [one for one in found if one not in refused]

    # how it is tried

    def _try(self, one: Candidate, waiting: int, more_than: int = 0) -> None:
        """Tries a candidate in its share of the time that is left.

        Args:
            one: It.
            waiting: How many are to be tried, it among them.
            more_than: Epochs that it has to have to be worth trying.
        """
        noted = self.record.tried.get(one.folder, {"name": one.name})
        trial_ = Trial(
            one,
            self.record.folder / "trials" / one.folder,
            self.whole,
            self.folds,
            self._own(noted),
            self.asked.precision,
        )
        plan = self._plan(one, noted, waiting)
        if more_than and (plan is None or plan.epochs <= more_than):
            return
        if plan is None:
            self._end(one, f"no time: its training takes {self._final_s(one, self._fewest(one)):.0f} s or more")
            return
        noted["epochs"] = plan.epochs
        self.record.tried[one.folder] = noted
        self.record.write()
        self.budget.say(f"{one.name}: {plan.folds} of {len(self.folds)} folds{self._of_epochs(one, plan)}")
        self._run_folds(trial_, plan, noted)

    def _own(self, noted: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the data and the computing, and what the first fold has found out."""
        return {**self.given, **({"augment": tuple(noted["augment"])} if noted.get("augment") is not None else {})}

    def _of_epochs(self, one: Candidate, plan: Plan) -> str:
        return "" if one.mode == "probe" else f", {plan.epochs} epochs each"

    def _plan(self, one: Candidate, noted: Mapping[str, Any], waiting: int) -> Plan | None:
        """The best way to try it within its share; that of before where it has begun."""
        if "epochs" in noted:
            return Plan(noted["epochs"], len(self.folds))
        costs = self.files.costs[one.graph]
        for plan in plans(one, self._epochs(one), len(self.folds)):
            fit_s = costs.fit_s(one, plan.epochs, self.whole)
            last_s = costs.fixed_s(one, self.whole) + costs.last_fit_s(one, plan.epochs, self.whole)
            free_s = (self.budget.left_s - last_s) / waiting
            needed_s = fit_s if one.mode == "probe" else trial_s(fit_s, len(self.folds), plan)
            needed_s += plan.folds * self._reduced_s(one)
            if MARGIN * needed_s <= free_s:
                return plan
        return None

    def _reduced_s(self, one: Candidate) -> float:
        """What the answers of a fold take in the precision that is deployed, beside the training."""
        if self.files.precision(one) == "fp32":
            return 0.0
        return self.files.costs[one.graph].reduced_s(self.folds[0])

    def _run_folds(self, trial_: Trial, plan: Plan, noted: dict[str, Any]) -> None:
        one = trial_.candidate
        done: list[Fold] = []
        ended = ""

        def settled(chosen: config.TrainConfig) -> None:
            if chosen.mode != "probe":  # what is held out for the end must not decide on it once more
                changes = Augmentation.of(chosen, self.whole.task, self.whole.class_names)
                noted["augment"] = sorted(changes.switches) if changes else []
                self.record.write()

        for number in range(1, plan.folds + 1):
            is_known = trial_.done(number) is not None
            allowed_s = self.budget.left_s - self._reserve_s(one, plan.epochs, done)
            too_long = bool(done) and number > 2 and max(fold.seconds for fold in done[1:]) > allowed_s
            if not is_known and (allowed_s <= 0 or too_long):
                ended = f"time was up after {len(done)} folds" if done else "no time beside the last training"
                break
            try:
                with contextlib.nullcontext() if is_known else at_most(allowed_s):
                    now = dataclasses.replace(trial_, given=self._own(noted), precision=self.files.precision(one))
                    fold = now.run(number, plan.epochs, settled)
                    self._settle_precision(one, noted, fold)
                done.append(fold)
            except TimeUp:
                ended = f"time was up in fold {number}"
                break
            except PerceptionError as error:
                ended = one_line(error, table.SHORT)
                break
            if self.files.is_slow(one):
                ended = f"slower than {self.asked.max_latency_ms:g} ms in fp32, and {self.files.missed(one)}"
                break
            ended = self._note(trial_, plan, done)
            if not is_known:
                self.budget.say(
                    f"{one.name}: {self._metric()} {self.tried[-1].row.score.value:.3f} after {len(done)} folds"
                )
            if ended:
                break
        self._end(one, ended or ("" if done else "time was up in fold 1"), done)

    def _note(self, trial_: Trial, plan: Plan, done: Sequence[Fold]) -> str:
        """Keeps what a candidate has answered so far; returns why it is tried no more, if it is."""
        row = trial_.row(done, self._cost(trial_.candidate, done))
        best = self.best(besides=trial_.candidate)
        final_s = self._final_s(trial_.candidate, plan.epochs, done)
        self.tried = [one for one in self.tried if one.candidate != trial_.candidate]
        self.tried.append(Tried(trial_.candidate, plan.epochs, len(done), row, final_s))
        self._line(trial_.candidate, "", done)
        self.keep()
        if best is not None and len(done) > 1 and len(done) < len(self.folds) and table.is_worse(row, best.row):
            return f"worse than {best.candidate.name}, shown after {len(done)} folds"
        return ""

    def _settle_precision(self, one: Candidate, noted: dict[str, Any], fold: Fold) -> None:
        """Has a candidate go on in float32 where its first fold has shown that the wanted precision costs too much."""
        if fold.missed and "missed" not in noted:
            self.files.fall_back(one)
            noted["missed"] = fold.missed
            self.record.write()
            self.budget.say(f"{one.name}: it goes on in fp32: {fold.missed}")

    def _cost(self, one: Candidate, done: Sequence[Fold]) -> Cost:
        known = self.files.known(one)
        return Cost(sum(fold.seconds for fold in done), known["latency_ms"], int(known["size_bytes"]))

    def _reserve_s(self, one: Candidate, epochs: int, done: Sequence[Fold]) -> float:
        """What has to be left after it: for the best so far, or for this one where there is none."""
        best = self.best()
        return self._final_s(one, epochs, done) if best is None else best.final_s

    def _final_s(self, one: Candidate, epochs: int, done: Sequence[Fold] | None = None) -> float:
        """What is left to do if a candidate is taken, by what its folds took where that is known; None: not begun."""
        costs = self.files.costs[one.graph]
        fit_s = (costs.fit_s if done is None else costs.last_fit_s)(one, epochs, self.whole)
        if done and one.mode != "probe":
            slowest = max(fold.seconds for fold in done)
            fit_s = slowest * len(self.folds) / (len(self.folds) - 1)
        return MARGIN * (fit_s + costs.fixed_s(one, self.whole))

    def _epochs(self, one: Candidate) -> int:
        return candidates.epochs_of(one, self.given)

    def _fewest(self, one: Candidate) -> int:
        return candidates.fewest_epochs(one, self._epochs(one))

    def _best_probes(self) -> list[Candidate]:
        """The networks to fine-tune, one of each backbone."""
        ranked = self._ranked([one for one in self.tried if one.candidate.mode == "probe"])
        first = {(one.candidate.backbone, one.candidate.settings["weights"]): one.candidate for one in reversed(ranked)}
        chosen = [one.candidate for one in ranked if one.candidate in first.values()]
        return chosen[:FINE_TUNED]

    def _try_scratch(self, scratch: Sequence[Candidate]) -> None:
        """Tries the first network in all variants, and the others in the better one first."""
        waiting = list(scratch)
        while waiting:
            one = waiting.pop(0)
            self._try(one, len(waiting) + 1)
            ranked = self._ranked([each for each in self.tried if each.candidate.variant])
            if ranked and not any(each.backbone == one.backbone for each in waiting):
                best = ranked[0].candidate.variant
                waiting = [each for each in waiting if each.variant == best]

    def _use_the_rest(self) -> None:
        """Gives the best the epochs and then the folds that there was no time for, as long as others waited."""
        best = self.best()
        if best is not None and best.candidate.mode != "probe" and best.epochs < self._epochs(best.candidate):
            self._try(candidates.longer(best.candidate), 1, more_than=best.epochs)
        for one in self._ranked(self.tried)[:_EXTENDED]:
            if one.folds < len(self.folds) and not self.lines[one.candidate.name].ended:
                self._try(one.candidate, 1)

    def _try_baselines(self) -> None:
        """Adds what is no network, where there is time that no network needs."""
        best = self.best()
        allowed_s = min(_OF_BASELINES * self.budget.seconds, self.budget.left_s - (best.final_s if best else math.inf))
        chosen = config.make(**{**self._shared, **self.given, "mode": "scratch", "output": "-"})
        try:
            with at_most(allowed_s):
                self.budget.say(f"{_BASELINES}, for comparison")
                found = reference.measured(self.whole, self.folds, chosen)
        except TimeUp:
            used_s = max(0.0, allowed_s)
            ended = f"time was up after {used_s:.0f} s" if used_s else "no time"
            self.budget.say(f"{_BASELINES}: {ended}")
            self.lines[_BASELINES] = Line(_BASELINES, "-", "", None, 0, None, None, used_s, ended, "-", False)
            self.keep()
            return
        for row in found:
            seconds = row.cost.fit_s or 0.0
            folds = f"{len(self.folds)} of {len(self.folds)}"
            images = len(row.samples)
            self.lines[row.name] = Line(
                row.name, "-", folds, row.score, images, None, None, seconds, "no network", "-", False
            )
        self.keep()

    # what comes of it

    def best(self, besides: Candidate | None = None) -> Tried | None:
        """Returns the best that has answered two folds or more, or any where none has."""
        ranked = self._ranked([one for one in self.tried if one.candidate != besides])
        several = [one for one in ranked if one.folds > 1]
        return next(iter(several or ranked), None)

    def _ranked(self, found: Sequence[Tried]) -> list[Tried]:
        """Candidates, the best first: each is put before the first that it beats on the images both answered."""
        ranked: list[Tried] = []
        for one in found:
            place = next((k for k, other in enumerate(ranked) if table.better(one.row, other.row)), len(ranked))
            ranked.insert(place, one)
        return ranked

    def _taken(self, usable: Sequence[Candidate]) -> Tried:
        """The best for whose training there is time; without any answer the first that can be trained at all."""
        best = self.best()
        fitting = [one for one in self.tried if one.final_s <= MARGIN * self.budget.left_s]
        if fitting:
            self.tried = fitting
        if best is not None and best not in self.tried:
            self.budget.say(
                f"{best.candidate.name}: the best so far, but there is no time left to train it on all images"
            )
        best = self.best()
        if best is not None:
            return best
        fast = [each for each in usable if not self.files.is_slow(each)]
        if not fast:
            raise self.files.refusal(self.lines.values())
        one = min(fast, key=lambda each: self._final_s(each, self._fewest(each)))
        fewest = self._fewest(one)
        self.budget.say(f"{one.name}: taken without cross-validation, for which there was no time")
        nothing = np.empty((0, len(self.whole.class_names)), np.float32)
        row = Row(one.name, True, "", None, self._cost(one, ()), (), nothing, self.whole)
        return Tried(one, fewest, 0, row, self._final_s(one, fewest))

    def _metric(self) -> str:
        return task_of(self.whole.task).metric_title

    def _end(self, one: Candidate, ended: str, done: Sequence[Fold] = ()) -> None:
        """Writes the line of a candidate that is tried no more, the table and the picture."""
        self._line(one, ended, done)
        if ended:
            self.budget.say(f"{one.name}: {ended}")
        table.draw(self.record.folder, self.keep(), self._metric(), "", self.asked.max_latency_ms)

    def _line(self, one: Candidate, ended: str, done: Sequence[Fold]) -> None:
        known = self.files.known(one)
        found = next((each for each in self.tried if each.candidate == one), None)
        self.lines[one.name] = Line(
            name=one.name,
            weights=Path(str(one.settings["weights"])).name,
            folds=f"{len(done)} of {len(self.folds)}" if done else "",
            score=found.row.score if found and done else None,
            images=len(found.row.samples) if found and done else 0,
            latency_ms=known.get("latency_ms"),
            size_mb=known["size_bytes"] / 1e6 if known else None,
            seconds=sum(fold.seconds for fold in done),
            ended=ended,
            precision=self.files.precision(one),
        )

    def keep(self) -> list[Line]:
        """Leaves the table as it is now; returns its lines."""
        lines = list(self.lines.values())
        self.record.rows = [line.as_json() for line in lines]
        self.record.write()
        table.write(self.record.folder, lines, self._metric())
        return lines
