"""A process that makes and checks inputs, and that may be killed at any of them."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import os
import pickle
import re
import resource
import signal
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from pathlib import Path
from random import Random
from typing import Any

from cnn_perception.errors import PerceptionError
from fuzz import ROOT
from fuzz.bags import bag_target
from fuzz.images import file_target, raw_target
from fuzz.models import checkpoint_target, gallery_target, graph_target, onnx_target, spec_target
from fuzz.reports import report_target
from fuzz.tables import calibration_target, label_target, table_target
from fuzz.target import Files, Sample, Target, ViolationError

SPARE_BYTES = 2 * 2**30
"""Of address space that an input may take: several times the largest image that is accepted."""
LARGEST_GROWTH_BYTES = 3 * 2**29
"""By how much the largest memory of the process may grow with one input."""
LONGEST_LINE = 4000
"""Characters of an error: a line that people read."""
INPUT_BYTES = 2**22

TARGETS: tuple[Target, ...] = (
    raw_target(), file_target(), spec_target(), gallery_target(), onnx_target(), graph_target(), checkpoint_target(),
    label_target(), table_target(), calibration_target(), bag_target("mcap"), bag_target("sqlite3"), report_target(),
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """An input that got past the errors that are meant for it.

    Attributes:
        target: Name of the target.
        place: What is the same for all inputs that fail so: the exception, and where it was raised.
        sample: The input.
        report: The traceback.
    """

    target: str
    place: str
    sample: Sample
    report: str


@dataclass
class Batch:
    """What became of some inputs.

    Attributes:
        count: How many.
        refused: How many of them were refused with an error that is meant for it.
        busy_s: How long it took, seconds.
        slowest_s: Processor time of the slowest, seconds.
        failures: One for each place.
        found: The first input of each outcome, by its words.
    """

    count: int = 0
    refused: int = 0
    busy_s: float = 0.0
    slowest_s: float = 0.0
    failures: dict[str, Failure] = field(default_factory=dict)
    found: dict[str, Sample] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared:
    """What the supervisor reads of a process that hangs or has crashed.

    Attributes:
        current: The input, pickled; its length first.
        number: How many inputs were begun.
    """

    current: SynchronizedArray[Any]
    number: Synchronized[int]


@cache
def target_of(name: str) -> Target:
    """Returns a target by its name."""
    return next(target for target in TARGETS if target.name == name)


@cache
def samples_of(name: str) -> tuple[Sample, ...]:
    """Returns the valid inputs of a target."""
    return tuple(target_of(name).samples())


def serve(connection: Connection, shared: Shared, scratch: Path) -> None:
    """Answers (target, seed, number, corpus) with a `Batch` until None comes, or the process is killed.

    Args:
        connection: To the supervisor.
        shared: What it reads meanwhile.
        scratch: Folder of its own; `report` in it gets the traceback of a crash, or of a hang when SIGUSR1 comes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    report = (scratch / "report").open("w")
    faulthandler.enable(report, all_threads=False)
    faulthandler.register(signal.SIGUSR1, report, all_threads=False)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and ONNX Runtime say there what they refuse
    tempfile.tempdir = str(scratch)
    warnings.simplefilter("ignore")
    while (job := connection.recv()) is not None:
        name, seed, number, corpus = job
        samples_of(name)  # what it imports is not the inputs' memory
        limit_memory()
        try:
            connection.send(run_batch(target_of(name), seed, number, corpus, partial(_announce, shared)))
        except BaseException:  # a defect of the fuzzer's own
            traceback.print_exc(file=report)
            raise


def limit_memory() -> None:
    """Lets this process take `SPARE_BYTES` of address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def run_batch(target: Target, seed: str, number: int, corpus: list[Sample], announce: Any = None) -> Batch:  # noqa: ANN401
    """Makes and checks the inputs of a batch; the same ones for the same arguments.

    Args:
        target: What is fuzzed.
        seed: Of all batches.
        number: Of this one.
        corpus: Inputs to damage further, beside the valid ones.
        announce: Is told each input before it is read.
    """
    random = Random(f"{seed}/{target.name}/{number}")
    pool = [*samples_of(target.name), *corpus]
    batch = Batch()
    began_s = time.monotonic()
    for _ in range(target.batch):
        parent = random.choice(pool)
        sample = Sample(parent.origin, target.mutate(random, parent, pool))
        if announce is not None:
            announce(sample)
        outcome = judge(target, sample, batch)
        if outcome not in batch.found:
            batch.found[outcome] = sample
            pool.append(sample)
    batch.busy_s = time.monotonic() - began_s
    return batch


def judge(target: Target, sample: Sample, batch: Batch) -> str:
    """Checks one input, enters it into a batch, and returns what became of it, without its values."""
    started_s = time.process_time()
    memory_bytes = _largest_memory_bytes()
    outcome = ""
    try:
        outcome = target.check(sample)
    except PerceptionError as error:
        batch.refused += 1
        text = str(error)
        outcome = _without_values(f"{type(error).__name__} {getattr(error, 'reason', '')} {text}")
        if len(text.splitlines()) != 1 or len(text) > LONGEST_LINE:
            _fail(batch, target, sample, ViolationError(f"an error of several lines, or of {LONGEST_LINE} characters"))
    except Exception as error:  # that none comes is what is tested
        outcome = _fail(batch, target, sample, error)
    growth_bytes = _largest_memory_bytes() - memory_bytes
    if growth_bytes > LARGEST_GROWTH_BYTES:
        _fail(batch, target, sample, ViolationError(f"more than {LARGEST_GROWTH_BYTES >> 20} MiB of memory"))
    batch.count += 1
    batch.slowest_s = max(batch.slowest_s, time.process_time() - started_s)
    return outcome


def _announce(shared: Shared, sample: Sample) -> None:
    content = pickle.dumps(sample)[: INPUT_BYTES - 8]
    shared.current[: 8 + len(content)] = len(content).to_bytes(8, "little") + content
    shared.number.value += 1


def _largest_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _fail(batch: Batch, target: Target, sample: Sample, error: Exception) -> str:
    place = place_of(error)
    report = "".join(traceback.format_exception(error, limit=-12))[-6000:]
    batch.failures.setdefault(place, Failure(target.name, place, sample, report))
    return place


def place_of(error: BaseException) -> str:
    """Returns the kind of an exception, where the project's code met it, and where it was raised."""
    if isinstance(error, ViolationError):
        return _without_values(f"ViolationError: {error}")
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith((f"{ROOT}/cnn_perception", f"{ROOT}/training"))]
    chosen = [*ours[-1:], *frames[-1:]]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in chosen]
    return f"{type(error).__name__} at {' <- '.join(dict.fromkeys(places))}"


def _without_values(text: str) -> str:
    """Returns a text without its numbers, its quotations and its paths, so that equal refusals are equal."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+", "_", text[:400])
    return re.sub(r"\d+", "#", text)[:120]


def save(folder: Path, target: str, sample: Sample) -> Path:
    """Writes an input below a folder, as `load` reads it; returns where."""
    digest = hashlib.sha256(pickle.dumps(sorted(sample.files.items()))).hexdigest()[:10]
    path = folder / f"{target}-{sample.origin}-{digest}"
    path.mkdir(parents=True, exist_ok=True)
    for name, content in sample.files.items():
        with contextlib.suppress(OSError):
            (path / name).write_bytes(content)
    return path


def load(path: Path) -> tuple[str, Sample]:
    """Returns the name of the target, and the input, that `save` wrote."""
    target, origin, _ = path.name.split("-", 2) if path.name.count("-") == 2 else (*path.name.split("-")[:2], "")
    files: Files = {file.name: file.read_bytes() for file in sorted(path.iterdir())}
    return target, Sample(origin, files)
