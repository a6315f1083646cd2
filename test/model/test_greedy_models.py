"""Owns: that no graph, however small its file, takes more memory than is allowed. Oracle: the kernel's count."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from bad_models import GREEDY, write_greedy_model
from paths import ROOT
from PIL import Image
from tiny_model import tiny_spec, write_tiny_model

from cnn_perception import memory
from cnn_perception.errors import ModelError
from cnn_perception.model import session
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.providers import CUDA
from cnn_perception.pipeline.isolated_load import IsolatedLoad
from cnn_perception.pipeline.score_map import dense_scores

GIB = 2**30
CPU = SessionOptions(["cpu"], intra_op_threads=1)


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


# The kernel's count of this memory alone; what wait4 says of a child includes what its parent had.
MEASURED = """
import sys
from cnn_perception.evaluation.cli import main
code = main([*sys.argv[1:], "--providers", "cpu"])
sys.stderr.write(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


@pytest.mark.parametrize("kind", GREEDY)
def test_evaluation_refuses_a_model_that_asks_for_gigabytes_and_never_has_them(kind: str, tmp_path: Path):
    model = write_greedy_model(tmp_path / "greedy.onnx", kind)
    photos = tmp_path / "photos"
    (photos / "red").mkdir(parents=True)
    Image.new("RGB", (32, 24), "red").save(photos / "red" / "1.png")
    words = ["--model", str(model), "--images", str(photos), "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    line, peak = done.stderr.splitlines()
    assert line.startswith(f"error: {model}: loading it takes more than ")
    assert int(peak.split()[1]) * 1024 < 2 * GIB


def test_load_in_a_process_of_its_own_is_refused_by_the_same_line(tmp_path: Path):
    with pytest.raises(ModelError, match="loading it takes more than"):
        IsolatedLoad().load(write_greedy_model(tmp_path / "greedy.onnx", "constant"), CPU, 600.0)


def test_score_map_that_asks_for_gigabytes_costs_only_itself(tmp_path: Path):
    model = OnnxModel(write_greedy_model(tmp_path / "greedy.onnx", "image", of="score_map"), CPU)
    with pytest.raises(ModelError, match="loading it takes more than"):
        dense_scores(model, np.zeros((24, 32, 3), np.uint8))
    assert len(model.run(np.zeros((1, 3, 24, 32), np.float32))) == 1


def test_where_there_is_a_gpu_the_graph_is_tried_on_the_cpu_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "has_driver", lambda: True)
    monkeypatch.setattr(session.onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    tried: list[str] = []
    create = session._create

    def record(file, providers, options):
        tried.append(providers[0][0])
        return create(file, [("CPUExecutionProvider", {})], options)

    monkeypatch.setattr(session, "_create", record)
    OnnxModel(write_tiny_model(tmp_path / "tiny.onnx"), SessionOptions(warm_up_batches=(1, 2)))
    assert tried == ["CPUExecutionProvider", CUDA]
    tried.clear()
    with pytest.raises(ModelError, match="loading it takes more than"):
        OnnxModel(write_greedy_model(tmp_path / "greedy.onnx", "image"))
    assert tried == ["CPUExecutionProvider"]


def test_larger_models_inputs_and_batches_may_take_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What VGG-16 takes at 224 pixels a side, 1.1 GiB, is allowed twice over; a tiny model may take little."""
    monkeypatch.setattr(memory, "affordable", lambda count: count)
    file = read_onnx_file(write_tiny_model(tmp_path / "tiny.onnx"))
    allowed = session._memory_allowance(file, tiny_spec(), CPU)
    assert GIB < allowed < 1.1 * GIB
    four = SessionOptions(["cpu"], intra_op_threads=1, warm_up_batches=(1, 4))
    assert session._memory_allowance(file, tiny_spec(), four) - allowed == 3 * 24 * 32 * 2048


def test_no_limit_is_left_behind_and_what_was_in_force_stays():
    before = soft_limit()
    with memory.limited(2**28), pytest.raises(MemoryError):
        np.ones(2**28, np.uint64)
    assert soft_limit() == before
    assert np.ones(2**26, np.uint8).all()


def test_blocks_of_two_threads_do_not_wait_for_each_other_and_leave_no_limit():
    before = soft_limit()
    inside, done = threading.Event(), threading.Event()

    def block() -> None:
        with memory.limited(2**28):
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=block)
    thread.start()
    assert inside.wait(60)
    alone = soft_limit()
    with memory.limited(2**27):
        assert soft_limit() == alone + 2**27
        done.set()
        thread.join(60)
    assert not thread.is_alive()
    assert soft_limit() == before


def test_of_a_machine_with_little_memory_a_part_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "_bytes", lambda file, key: {"MemAvailable": GIB}[key])
    assert memory.affordable(4 * GIB) == 3 * GIB // 4
    assert memory.affordable(GIB // 8) == GIB // 8
