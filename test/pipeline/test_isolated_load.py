"""Owns: a model that is tried in another process: what is said of it, and how it is ended. Real processes."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest
from bad_models import write_endless_model
from tiny_model import as_int8, tiny_spec, write_tiny_model

from cnn_perception.errors import ModelError
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.isolated_load import IsolatedLoad

CPU = SessionOptions(["cpu"], intra_op_threads=1)


def test_good_model_is_loaded_and_forgotten(tmp_path: Path):
    IsolatedLoad().load(write_tiny_model(tmp_path / "tiny.onnx"), CPU, 600.0)


def test_what_was_found_to_be_the_fastest_is_told_also_where_it_cannot_be_kept(tmp_path: Path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    other = write_tiny_model(tmp_path / "tiny_int8.onnx", spec=as_int8(tiny_spec()))
    (tmp_path / "cache").write_text("a file where the folder should be")
    options = SessionOptions(["fastest", "cpu"], intra_op_threads=1, cache_dir=str(tmp_path / "cache"))

    found = IsolatedLoad().load(model, options, 600.0)

    assert found is not None
    assert found.sha256 in {hashlib.sha256(path.read_bytes()).hexdigest() for path in (model, other)}
    assert (found.provider, found.text.count(" ms"), found.lasts) == ("CPUExecutionProvider", 2, True)
    assert IsolatedLoad().load(model, CPU, 600.0) is None


def test_bad_model_is_refused_by_the_line_that_loading_it_here_would_give(tmp_path: Path):
    with pytest.raises(ModelError, match=r"gone\.onnx: there is no such model file"):
        IsolatedLoad().load(tmp_path / "gone.onnx", CPU, 600.0)


def test_load_without_end_is_given_up_after_the_time_it_may_take(tmp_path: Path):
    model = write_endless_model(tmp_path / "endless.onnx")
    with pytest.raises(ModelError, match=r"endless\.onnx: loading it takes more than 2 s .* raise model_timeout_s"):
        IsolatedLoad().load(model, CPU, 2.0)


@pytest.mark.parametrize(("end", "why"), [("give_up", "the node was cleaned up"), ("cancel", "the node ends")])
def test_load_without_end_can_be_ended_from_another_thread(tmp_path: Path, end: str, why: str):
    model = write_endless_model(tmp_path / "endless.onnx")
    one = IsolatedLoad()
    said: list[str] = []

    def load() -> None:
        with pytest.raises(ModelError) as refused:
            one.load(model, CPU, 600.0)
        said.append(str(refused.value))

    thread = threading.Thread(target=load)
    thread.start()
    while one._process is None:
        time.sleep(0.01)
    if end == "give_up":
        ended_first = Path(f"/proc/{one._process.pid}/oom_score_adj")
        while ended_first.read_text() != "1000\n":  # where memory is short it goes before the node, see `main`
            time.sleep(0.01)
    getattr(one, end)()
    thread.join(60)
    assert said == [f"{model}: not loaded, because {why}"]
    if end == "give_up":  # and the next one is loaded as usual
        with pytest.raises(ModelError, match="cleaned up"):
            one.load(write_tiny_model(tmp_path / "tiny.onnx"), CPU, 600.0)
        one.begin()
        one.load(write_tiny_model(tmp_path / "tiny.onnx"), CPU, 600.0)
    else:
        with pytest.raises(ModelError, match="the node ends"):
            one.load(write_tiny_model(tmp_path / "tiny.onnx"), CPU, 600.0)
