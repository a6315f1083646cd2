"""Owns: that the fastest of those that answer alike is taken, and kept. Leaves to others: which are tried
(test_candidates), real times (benchmark.fastest).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import as_int8, tiny_spec, write_tiny_model

from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.fastest import trials
from cnn_perception.fastest.choice import Choice
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import Outputs
from cnn_perception.model.providers import CPU, CUDA, SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline

INT8 = as_int8(tiny_spec())


class Machine:
    """Stands in for a machine with a GPU, and for the times that candidates take there.

    Attributes:
        times_ms: By file name and provider.
        fails: Providers that do not start.
        adds: What a provider adds to a logit.
        tried: Which candidates were timed, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times_ms: dict[tuple[str, str], float] = {}
        self.fails: set[str] = set()
        self.adds: dict[str, float] = {}
        self.tried: list[tuple[str, str]] = []
        self.loaded: list[tuple[str, str]] = []
        monkeypatch.setattr(trials, "OnnxModel", self._open)
        monkeypatch.setattr(trials, "_median_ms", self._time)

    def _open(self, path: Path, options: SessionOptions, log: Callable[[str], None]) -> OnnxModel:
        wanted = options.provider_order[0]
        model = OnnxModel(path, SessionOptions(["cpu"]), log)
        model.provider = CPU if wanted in self.fails else wanted
        model.fallback = f"{wanted} cannot be started (no driver)" if wanted in self.fails else ""
        if options.require_gpu and model.provider == CPU:
            raise ConfigError(f"require_gpu is set, but only CPU runs {path}")
        self.loaded.append((path.name, model.provider))
        compute = model.run

        def run(images: Any, activation: bool = True) -> list[Outputs]:
            outputs = compute(images, activation)
            if added := self.adds.get(model.provider, 0.0):
                outputs = [dataclasses.replace(one, logits=one.logits + np.float32(added)) for one in outputs]
            return outputs

        model.run = run  # type: ignore[method-assign]
        return model

    def _time(self, model: OnnxModel, _batch: int, _budget_s: float) -> float:
        one = (model.path.name, model.provider)
        self.tried.append(one)
        return self.times_ms[one]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write_tiny_model(tmp_path / "m.onnx")
    write_tiny_model(tmp_path / "m_int8.onnx", spec=INT8)
    return tmp_path


def options(folder: Path, *providers: str, **others: Any) -> SessionOptions:
    return SessionOptions(["fastest", *providers], cache_dir=str(folder / "cache"), **others)


def load(folder: Path, *providers: str, **others: Any) -> tuple[str, str, str, list[str]]:
    """Returns the file and the provider that were taken, what was said of them, and what was logged."""
    lines: list[str] = []
    pipeline = Pipeline.load(folder / "m.onnx", options(folder, *providers, **others), lines.append)
    return pipeline.model.path.name, pipeline.model.provider, pipeline.choice, lines


TIMES = {("m.onnx", CPU): 9.0, ("m.onnx", CUDA): 2.0, ("m_int8.onnx", CPU): 3.0, ("m_int8.onnx", CUDA): 4.0}


@pytest.mark.parametrize("fastest", TIMES)
def test_the_fastest_file_and_provider_is_taken_and_all_are_told(
    folder: Path, machine: Machine, fastest: tuple[str, str]
):
    machine.times_ms = TIMES | {fastest: 1.0}
    name, provider, text, lines = load(folder, "cuda")
    assert (name, provider) == fastest
    told = [part.rsplit(" ", 2) for part in text.split("; ")]
    assert [one for one, *_ in told] == [
        f"{name} on {provider}" for name, provider in sorted(machine.times_ms, key=lambda one: machine.times_ms[one])
    ]
    assert told[0][1:] == ["1.0", "ms"]
    assert lines == [f"trying which of 4 ways to run {folder / 'm.onnx'} is the fastest"]


def test_what_was_found_is_used_at_the_next_start_without_trying_again(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    first = load(folder, "cuda")
    machine.tried.clear()
    machine.loaded.clear()
    assert load(folder, "cuda")[:3] == first[:3]
    assert machine.tried == []
    assert machine.loaded == [("m.onnx", CUDA)]


def told(folder: Path, found: Choice, *providers: str) -> tuple[str, str, str, list[str]]:
    """Returns as `load` what is loaded by one who was told what another process has found."""
    lines: list[str] = []
    pipeline = Pipeline.load(folder / "m.onnx", options(folder, *providers), lines.append, found)
    return pipeline.model.path.name, pipeline.model.provider, pipeline.choice, lines


def choice_of(folder: Path, name: str, provider: str, **others: Any) -> Choice:
    return Choice(hashlib.sha256((folder / name).read_bytes()).hexdigest(), provider, "as it was told", **others)


@pytest.mark.parametrize("has_cache", [True, False])
def test_what_another_process_has_found_is_not_tried_again(folder: Path, machine: Machine, has_cache: bool):
    machine.times_ms = TIMES
    if not has_cache:
        (folder / "cache").write_text("a file where the folder should be")
    name, provider, text, lines = told(folder, choice_of(folder, "m_int8.onnx", CPU), "cuda")
    assert (name, provider, text) == ("m_int8.onnx", CPU, "as it was told")
    assert (machine.tried, machine.loaded) == ([], [("m_int8.onnx", CPU)])
    assert ["it cannot be kept" in line for line in lines] == ([] if has_cache else [True])
    if has_cache:
        assert load(folder, "cuda")[2] == "as it was told"
        assert machine.tried == []


def test_what_another_process_has_found_counts_before_what_was_kept(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    assert load(folder, "cuda")[:2] == ("m.onnx", CUDA)
    machine.tried.clear()
    without_gpu = choice_of(folder, "m_int8.onnx", CPU, lasts=False)  # as where the GPU's memory is full now
    assert told(folder, without_gpu, "cuda")[:2] == ("m_int8.onnx", CPU)
    assert machine.tried == []
    assert load(folder, "cuda")[:2] == ("m.onnx", CUDA)  # what was kept stays


@pytest.mark.parametrize("lasts", [True, False])
def test_only_what_lasts_is_kept_of_what_another_process_has_found(folder: Path, machine: Machine, lasts: bool):
    machine.times_ms = TIMES
    told(folder, choice_of(folder, "m_int8.onnx", CPU, lasts=lasts), "cuda")
    assert (folder / "cache").exists() == lasts


def test_what_another_process_has_found_and_is_not_so_here_is_tried(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    machine.fails = {CUDA}
    assert told(folder, choice_of(folder, "m.onnx", CUDA), "cuda")[:2] == ("m_int8.onnx", CPU)
    assert told(folder, Choice("0" * 64, CPU, "of another file"), "cuda")[:2] == ("m_int8.onnx", CPU)


@pytest.mark.parametrize("lasts", [True, False])
def test_what_was_found_is_the_same_after_it_was_sent(lasts: bool):
    one = Choice("a" * 64, CPU, "m.onnx on CPU 1.0 ms; m\u00fc.onnx fails", lasts)
    assert Choice.from_json(one.to_json()) == one
    assert "\n" not in one.to_json()


@pytest.mark.parametrize("changed", [{"intra_op_threads": 1}, {"warm_up_batches": (1, 2)}])
def test_other_settings_are_tried_again(folder: Path, machine: Machine, changed: dict[str, Any]):
    machine.times_ms = TIMES
    load(folder, "cuda")
    machine.tried.clear()
    load(folder, "cuda", **changed)
    assert len(machine.tried) == 4


def test_another_file_is_tried_again(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    load(folder, "cuda")
    machine.tried.clear()
    write_tiny_model(folder / "m_int8.onnx", spec=INT8, gain=5.0)
    load(folder, "cuda")
    assert len(machine.tried) == 4


def test_another_cpu_is_another_machine(folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.times_ms = TIMES
    load(folder, "cuda")
    machine.tried.clear()
    (folder / "cpuinfo").write_text("model name\t: Another CPU\n")
    monkeypatch.setattr("cnn_perception.fastest.choice_cache._CPU_INFO", folder / "cpuinfo")
    load(folder, "cuda")
    assert len(machine.tried) == 4


def test_provider_that_does_not_start_is_told_and_not_taken(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    machine.fails = {CUDA}
    name, provider, text, _ = load(folder, "cuda")
    assert (name, provider) == ("m_int8.onnx", CPU)
    assert f"m.onnx on {CUDA} cannot be started (no driver)" in text


def test_provider_that_no_longer_starts_is_not_believed_in(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    assert load(folder, "cuda")[:2] == ("m.onnx", CUDA)
    machine.fails = {CUDA}
    assert load(folder, "cuda")[:2] == ("m_int8.onnx", CPU)


def test_provider_that_answers_otherwise_than_the_certificate_allows_is_not_taken(folder: Path, machine: Machine):
    machine.times_ms = TIMES | {("m_int8.onnx", CUDA): 1.0}
    model = OnnxModel(folder / "m.onnx", SessionOptions(["cpu"]))
    noise = np.random.default_rng(0).standard_normal((4, 3, 24, 32), np.float32)
    largest = max(float(np.abs(one.logits).max()) for one in model.run(noise))
    # within what int8 may differ (0.05), beyond what fp32 may (1e-4)
    machine.adds = {CUDA: 0.01 * largest}
    name, provider, text, _ = load(folder, "cuda")
    assert (name, provider) == ("m_int8.onnx", CUDA)
    assert f"m.onnx on {CUDA} answers otherwise than the CPU (logits by 0.01 of the largest, 0.0001 allowed)" in text

    machine.adds = {CUDA: 0.1 * largest}
    write_tiny_model(folder / "m_int8.onnx", spec=INT8, gain=20.0)
    assert load(folder, "cuda")[1] == CPU


def test_not_a_number_is_no_answer(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    machine.adds = {CUDA: float("nan")}
    assert load(folder, "cuda")[1] == CPU


def test_sibling_that_cannot_be_run_costs_nothing(folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.times_ms = TIMES
    opened = trials.OnnxModel

    def refuse_int8(path: Path, *others: Any) -> OnnxModel:
        if path.name == "m_int8.onnx":
            raise ModelError(f"{path}: ONNX Runtime cannot run it")
        return opened(path, *others)

    monkeypatch.setattr(trials, "OnnxModel", refuse_int8)
    name, _, text, _ = load(folder, "cpu")
    assert name == "m.onnx"
    assert "m_int8.onnx on CPUExecutionProvider fails" in text


def test_required_gpu_that_is_not_there_is_refused_as_without_a_race(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    machine.fails = {CUDA}
    with pytest.raises(ConfigError, match="require_gpu is set"):
        load(folder, "cuda", require_gpu=True)


def test_required_gpu_is_taken_however_fast_the_cpu_is(folder: Path, machine: Machine):
    machine.times_ms = TIMES | {("m.onnx", CPU): 0.1}
    assert load(folder, "cuda", require_gpu=True)[:2] == ("m.onnx", CUDA)
    assert load(folder, "cuda")[:2] == ("m.onnx", CPU)  # what was found for the other is not taken for this


def test_provider_that_cannot_be_compared_with_the_cpu_is_not_taken(
    folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    machine.times_ms = TIMES | {("m_int8.onnx", CUDA): 0.1}
    opened = trials.OnnxModel

    def refuse_int8_on_cpu(path: Path, options: SessionOptions, *others: Any) -> OnnxModel:
        if path.name == "m_int8.onnx" and options.provider_order == (CPU,):
            raise ModelError(f"{path}: ONNX Runtime cannot run it")
        return opened(path, options, *others)

    monkeypatch.setattr(trials, "OnnxModel", refuse_int8_on_cpu)
    name, provider, text, _ = load(folder, "cuda")
    assert (name, provider) == ("m.onnx", CUDA)
    assert f"m_int8.onnx on {CUDA} cannot be compared with the CPU" in text


def test_kept_choice_that_fails_to_load_is_found_anew(folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.times_ms = TIMES
    assert load(folder, "cuda")[:2] == ("m.onnx", CUDA)
    opened = trials.OnnxModel

    def fail_on_cuda(path: Path, options: SessionOptions, *others: Any) -> OnnxModel:
        if options.provider_order[0] == CUDA:
            raise ModelError(f"{path}: the GPU has no memory left")
        return opened(path, options, *others)

    monkeypatch.setattr(trials, "OnnxModel", fail_on_cuda)
    assert load(folder, "cuda")[:2] == ("m_int8.onnx", CPU)


def test_what_was_found_without_a_gpu_that_has_a_driver_is_not_kept(
    folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    machine.times_ms = TIMES
    monkeypatch.setattr(trials, "has_driver", lambda: True)
    machine.fails = {CUDA}  # its memory is full
    assert load(folder, "cuda")[:2] == ("m_int8.onnx", CPU)
    machine.fails = set()
    assert load(folder, "cuda")[:2] == ("m.onnx", CUDA)
    machine.fails = {CUDA}
    assert load(folder, "cuda")[:2] == ("m_int8.onnx", CPU)
    machine.fails = set()
    machine.tried.clear()
    assert load(folder, "cuda")[:2] == ("m.onnx", CUDA)  # what was found with it stays
    assert machine.tried == []


def test_file_that_is_replaced_between_reading_and_loading_is_refused(
    folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    machine.times_ms = TIMES
    opened = trials.OnnxModel

    def replace_first(path: Path, *others: Any) -> OnnxModel:
        write_tiny_model(folder / "m.onnx", gain=3.0)
        return opened(path, *others)

    monkeypatch.setattr(trials, "OnnxModel", replace_first)
    with pytest.raises(ModelError, match="has been replaced while it was loaded"):
        load(folder, "cpu")


DAMAGED: dict[str, Any] = {
    "cut off": b'{"sha256": "',
    "no object": b"[1, 2]",
    "another file": {"sha256": "0" * 64, "provider": CPU, "text": ""},
    "another provider": {"provider": "DmlExecutionProvider", "text": ""},
    "a text of two lines": {"provider": CPU, "text": "a\nb\x1b[31m"},
    "no text": {"provider": CPU, "text": 3},
    "deep": b"[" * 90_000,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_record_is_found_anew(folder: Path, machine: Machine, damage: Any):
    machine.times_ms = TIMES
    load(folder, "cpu")
    (record,) = (folder / "cache" / "fastest").iterdir()
    kept = json.loads(record.read_text())
    record.write_bytes(damage if isinstance(damage, bytes) else json.dumps(kept | damage).encode())
    machine.tried.clear()
    assert load(folder, "cpu")[0] == "m_int8.onnx"
    assert len(machine.tried) == 2


def test_where_nothing_can_be_kept_it_is_said_and_answered_all_the_same(folder: Path, machine: Machine):
    machine.times_ms = TIMES
    (folder / "cache").write_text("a file where the folder should be")
    name, _, _, lines = load(folder, "cpu")
    assert name == "m_int8.onnx"
    assert "will be tried at each start, for it cannot be kept" in lines[-1]


def test_real_session_is_timed_and_taken(folder: Path):
    pipeline = Pipeline.load(folder / "m.onnx", options(folder, "cpu"))
    assert pipeline.model.path.name in ("m.onnx", "m_int8.onnx")
    assert pipeline.choice.count(" ms") == 2
    assert pipeline.spec.class_names == ("red", "green", "blue")
