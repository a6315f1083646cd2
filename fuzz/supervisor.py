"""Runs the targets in processes that are killed when they hang, and counts what becomes of the inputs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from fuzz.target import Sample
from fuzz.worker import INPUT_BYTES, Batch, Failure, Shared, load, save, serve, target_of

LONGEST_S = 5.0
"""Processor time of one input, seconds: an image of the largest size that is accepted takes less than one."""
LONGEST_WAIT_S = 60.0
"""Time of one input on the clock, seconds, on a machine that does other things, too."""
START_S = 120.0
"""Time in which a process has its first inputs, seconds: some import torch."""
_POLL_S = 0.2
_PROGRESS_S = 2.0
_NEEDED_BYTES = 2**30
_CORPUS_SIZE = 300
"""Inputs of each target that are kept for the next runs."""


@dataclass
class Tally:
    """What has become of the inputs of one target: counts, and the time that its processes took, seconds."""

    inputs: int = 0
    refused: int = 0
    batches: int = 0
    busy_s: float = 0.0
    slowest_s: float = 0.0
    failures: dict[str, Failure] = field(default_factory=dict)
    found: dict[str, Sample] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Counts a batch."""
        self.inputs += batch.count
        self.refused += batch.refused
        self.busy_s += batch.busy_s
        self.slowest_s = max(self.slowest_s, batch.slowest_s)
        for place, failure in batch.failures.items():
            self.failures.setdefault(place, failure)
        for outcome, sample in batch.found.items():
            self.found.setdefault(outcome, sample)


class Fuzzing:
    """A run over some targets.

    Attributes:
        tallies: By the name of the target.
    """

    def __init__(self, names: list[str], seed: str, corpus: Path | None, workers: int) -> None:
        """Reads the corpus; no process is started.

        Args:
            names: Of the targets.
            seed: Decides every input, together with the corpus.
            corpus: Folder of the inputs of earlier runs; None for the valid ones alone.
            workers: How many processes run at once.
        """
        self.tallies = {name: Tally() for name in names}
        self._seed = seed
        self._workers = workers
        self._corpus: dict[str, list[Sample]] = {name: [] for name in names}
        for path in sorted(corpus.iterdir()) if corpus and corpus.is_dir() else []:
            name, sample = load(path)
            if name in self._corpus and sample.files:
                self._corpus[name].append(sample)

    def run(self, seconds: float) -> Iterator[None]:
        """Fuzzes for a time; yields every two seconds."""
        with tempfile.TemporaryDirectory(prefix="fuzz_", dir=_fast_folder()) as name:
            workers = [_Worker(Path(name) / str(number)) for number in range(self._workers)]
            try:
                yield from self._run(workers, time.monotonic() + seconds)
            finally:
                for worker in workers:
                    worker.kill()

    def save_corpus(self, folder: Path) -> None:
        """Keeps one input of each outcome for the next runs."""
        for name, tally in self.tallies.items():
            for sample in [*tally.found.values()][: _CORPUS_SIZE - len(self._corpus[name])]:
                save(folder, name, sample)

    def _run(self, workers: list[_Worker], end_s: float) -> Iterator[None]:
        progress_s = time.monotonic() + _PROGRESS_S
        while time.monotonic() < end_s:
            for worker in workers:
                if worker.target is None:
                    self._begin(worker)
            wait([worker.connection for worker in workers], timeout=_POLL_S)
            for worker in workers:
                self._look_after(worker)
            if time.monotonic() > progress_s:
                progress_s = time.monotonic() + _PROGRESS_S
                yield

    def _begin(self, worker: _Worker) -> None:
        """Gives a process a batch of the target that has had the smallest part of its time."""
        name = min(self.tallies, key=lambda one: self.tallies[one].busy_s / target_of(one).share)
        tally = self.tallies[name]
        worker.begin(name, self._seed, tally.batches, self._corpus[name])
        tally.batches += 1
        tally.busy_s += 1e-3  # so that another process takes another target

    def _look_after(self, worker: _Worker) -> None:
        assert worker.target is not None
        tally = self.tallies[worker.target]
        batch = worker.result()
        if batch is not None:
            tally.add(batch)
            worker.target = None
            return
        failure = worker.failure()
        if failure is not None:
            busy_s = time.monotonic() - worker.began_s
            tally.add(Batch(worker.begun_inputs(), busy_s=busy_s, failures={failure.place: failure}))
            worker.restart()


class _Worker:
    """A process, and what it is doing."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._context = multiprocessing.get_context("spawn")
        self.target: str | None = None
        self.began_s = 0.0
        self._start()

    def begin(self, target: str, seed: str, number: int, corpus: list[Sample]) -> None:
        """Gives it a batch."""
        self.target = target
        self.began_s = time.monotonic()
        self._inputs_before = self._shared.number.value
        self._current = self._inputs_before
        self._current_s = self.began_s
        self._current_processor_s = self._processor_s()
        self.connection.send((target, seed, number, corpus))

    def result(self) -> Batch | None:
        """Returns its batch; None as long as there is none."""
        with contextlib.suppress(EOFError, ConnectionError):  # it has crashed
            if self.connection.poll():
                batch: Batch = self.connection.recv()
                return batch
        return None

    def failure(self) -> Failure | None:
        """Returns the input at which it crashed or hangs; None where it goes on."""
        if not self._process.is_alive():
            code = self._process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return self._failure(f"crash ({how})")
        number = self._shared.number.value
        if number != self._current:
            self._current = number
            self._current_s = time.monotonic()
            self._current_processor_s = self._processor_s()
            return None
        waited_s = time.monotonic() - self._current_s
        if number == self._inputs_before:
            return self._failure("no start") if waited_s > START_S else None
        if waited_s > LONGEST_WAIT_S or self._processor_s() - self._current_processor_s > LONGEST_S:
            os.kill(self._process.pid or 0, signal.SIGUSR1)
            time.sleep(_POLL_S)
            return self._failure("hang")
        return None

    def begun_inputs(self) -> int:
        """Returns how many inputs of the batch it has begun."""
        return self._shared.number.value - self._inputs_before

    def restart(self) -> None:
        """Ends the process and starts another."""
        self.kill()
        self._start()

    def kill(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _start(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        self.target = None
        array: Any = self._context.Array("c", INPUT_BYTES)
        self._shared = Shared(array, self._context.Value("q", 0))
        self.connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(theirs, self._shared, self._scratch), daemon=True)
        self._process.start()
        theirs.close()

    def _failure(self, how: str) -> Failure:
        assert self.target is not None
        report = (self._scratch / "report").read_text(errors="replace")
        places = [line.strip() for line in report.splitlines() if line.strip().startswith("File")]
        place = next((line for line in places if "cnn_perception/cnn_perception" in line or "training" in line), "")
        content = self._shared.current
        length = int.from_bytes(bytes(content[:8]), "little")
        sample: Sample = pickle.loads(bytes(content[8 : 8 + length])) if length else Sample("none", {})
        return Failure(self.target, f"{how} at {(places or [''])[0]} {place}", sample, report[-6000:])

    def _processor_s(self) -> float:
        """Returns the processor time that the process has taken, seconds. Source: proc(5), /proc/pid/stat."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fast_folder() -> str | None:
    """Returns a folder in memory, where bags are written faster; None where there is none with room."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _NEEDED_BYTES:
        return str(memory)
    return None
