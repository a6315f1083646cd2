"""Owns: which model is in use, and which are loaded, tried, kept or freed. Loaders are stubs; no ROS.

Leaves to others: that a load in another process is one (test_node_life), when a running node swaps (test_node_life).
"""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from node_parts import CPU, RED, SaidLogger
from onnxruntime import InferenceSession
from paths import ROOT
from tiny_model import regression_spec, tiny_spec, with_score_map, write_tiny_model

from cnn_perception.background.selection import Origin, RecorderSettings
from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.fastest.choice import Choice
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.model.spec import ModelSpec
from cnn_perception.perception_node import active_model
from cnn_perception.perception_node.active_model import ActiveModel, ModelOptions, ModelOwner

A, B = ModelOptions(Path("a.onnx"), CPU), ModelOptions(Path("b.onnx"), CPU)


class StubBackground:
    """In the place of a recorder."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self, timeout_s: float) -> bool:
        self.closed += 1
        return True


class Bench:
    """An owner whose loads happen in a list; files in `refused` cannot be loaded here, in `harmful` nowhere."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.without_maps: list[str] = []  # the files of models whose score maps were ended
        self.refused: set[str] = set()
        self.harmful: set[str] = set()
        self.found: list[Choice | None] = []  # what each load here was told
        self.logger = SaidLogger()
        isolated_load: Any = SimpleNamespace(
            load=self._try,
            begin=lambda: None,
            cancel=lambda: self.happened.append("cancel"),
            give_up=lambda: self.happened.append("give up"),
        )
        self.meanwhile: Callable[[], object] = lambda: None
        self.hung: list[BaseException] = []
        self.models = ModelOwner(self._load, isolated_load, self.logger, self.hung.append)

    def _try(self, path: Path, options: SessionOptions, timeout_s: float) -> Choice | None:
        self.happened.append(f"try {path}")
        self.meanwhile()
        if str(path) in self.harmful:
            raise ModelError(f"{path}: harmful")
        return Choice(f"sha256 of {path}", "CPUExecutionProvider", "1.0 ms") if options.picks_fastest else None

    def _load(self, options: ModelOptions, logger: object, found: Choice | None) -> ActiveModel:
        self.happened.append(f"load {options.path}")
        self.found.append(found)
        self.meanwhile()
        if str(options.path) in self.refused:
            raise ModelError(f"{options.path}: refused")
        model = SimpleNamespace(
            path=options.path,
            spec=tiny_spec(),
            provider="CPUExecutionProvider",
            fallback="",
            cancel_views=lambda: self.without_maps.append(str(options.path)),
        )
        pipeline: Any = SimpleNamespace(spec=model.spec, model=model, choice="")
        recorder: Any = StubBackground()
        return ActiveModel(options, pipeline, recorder=recorder)

    def use(self, options: ModelOptions) -> ActiveModel:
        model = self.models.load(options)
        self.models.replace(model)
        return model


def closed(model: ActiveModel) -> int:
    recorder: Any = model.recorder
    return recorder.closed


def test_first_model_is_loaded_here_and_every_other_is_tried_elsewhere_first():
    bench = Bench()
    bench.use(A)
    bench.use(B)
    assert bench.happened == ["load a.onnx", "try b.onnx", "load b.onnx"]
    assert [text for text in bench.logger.texts("info") if text.startswith("loading")] == [
        "loading a.onnx",
        "loading b.onnx",
    ]


def test_first_model_whose_engine_takes_minutes_is_tried_elsewhere_too():
    bench = Bench()
    slow = dataclasses.replace(A, session=dataclasses.replace(CPU, providers=("TensorrtExecutionProvider",)))
    bench.use(slow)
    assert bench.happened == ["try a.onnx", "load a.onnx"]


def test_what_was_found_elsewhere_to_be_the_fastest_is_told_to_the_load_here():
    bench = Bench()
    fastest = dataclasses.replace(CPU, providers=("fastest", "cpu"))
    bench.use(dataclasses.replace(A, session=fastest))
    bench.use(dataclasses.replace(B, session=fastest, shadow_path=Path("s.onnx")))
    bench.use(A)
    assert bench.happened[1:4] == ["try b.onnx", "try s.onnx", "load b.onnx"]
    assert bench.found == [None, Choice("sha256 of b.onnx", "CPUExecutionProvider", "1.0 ms"), None]


def test_model_that_fails_elsewhere_is_never_loaded_here_and_the_old_one_stays():
    bench = Bench()
    model = bench.use(A)
    bench.harmful.add("b.onnx")
    with pytest.raises(ModelError, match=r"b\.onnx: harmful"):
        bench.models.load(B)
    assert bench.happened == ["load a.onnx", "try b.onnx"]
    assert bench.models.current is model
    assert closed(model) == 0


def test_version_counts_the_models_taken_into_use():
    bench = Bench()
    assert bench.models.version == 0
    bench.use(A)
    bench.refused.add("b.onnx")
    with pytest.raises(ModelError):
        bench.models.load(B)
    assert bench.models.version == 1
    bench.use(A)
    assert bench.models.version == 2
    assert bench.logger.texts("info")[-1] == (
        "model 2: a.onnx (tiny, multiclass of 3, 32x24 squash) on CPUExecutionProvider"
    )


def test_model_without_the_class_that_is_wanted_is_closed_and_refused():
    bench = Bench()
    loaded: list[ActiveModel] = []
    load = bench.models._load
    bench.models._load = lambda *arguments: loaded.append(load(*arguments)) or loaded[-1]  # type: ignore[func-returns-value]
    with pytest.raises(ConfigError, match="score_map_class is 'violet'; choose '' or one of red, green, blue"):
        bench.models.load(dataclasses.replace(A, score_map_class="violet"))
    assert [closed(model) for model in loaded] == [1]
    assert bench.models.current is None
    bench.use(dataclasses.replace(A, score_map_class="blue"))


def test_unit_that_the_model_does_not_have_is_refused_and_nothing_is_read_for_the_default_one(tmp_path: Path):
    path = write_tiny_model(tmp_path / "tiny.onnx")
    alone: Any = SimpleNamespace(begin=lambda: None)
    owner = ModelOwner(ActiveModel.load, alone, SaidLogger(), lambda _: None)
    model = owner.load(ModelOptions(path, CPU))
    assert model.pipeline.units.known is None
    owner.replace(model)
    owner.check(ModelOptions(path, CPU, unit_layer="features", unit=2))
    with pytest.raises(ConfigError, match=r"'feature', which the model does not have \(nearest: features\)"):
        owner.check(ModelOptions(path, CPU, unit_layer="feature"))
    with pytest.raises(ConfigError, match="parameter unit is 3, but layer 'features' has units 0 to 2"):
        owner.check(ModelOptions(path, CPU, unit=3))
    path.write_bytes(path.read_bytes() + b"\x3a\x00")
    assert model.pipeline.units.known is not None
    owner.check(ModelOptions(path, CPU, unit=1))  # what is known is not read again


def test_shadow_is_tried_elsewhere_like_any_other_where_a_model_is_in_use():
    bench = Bench()
    shadowed = dataclasses.replace(A, shadow_path=Path("s.onnx"))
    bench.use(shadowed)
    assert bench.happened == ["load a.onnx"]
    bench.harmful.add("s.onnx")
    with pytest.raises(ModelError, match=r"s\.onnx: harmful"):
        bench.models.load(shadowed)
    assert bench.happened[1:] == ["try a.onnx", "try s.onnx"]


def test_while_a_model_is_loaded_another_is_refused_and_the_one_under_way_is_told():
    bench = Bench()
    bench.use(A)
    told: list[str] = []

    def load_another() -> None:
        told.append(bench.models.load_under_way)
        with pytest.raises(ConfigError, match=r"a\.onnx: not loaded, because another model is being loaded"):
            bench.models.load(A)

    bench.meanwhile = load_another
    bench.models.load(B)
    assert told == ["loading b.onnx for 0 s"] * 2
    assert bench.models.load_under_way == ""
    bench.meanwhile = lambda: None
    bench.models.load(A)


@pytest.mark.parametrize(("end", "why"), [("give_up", "was cleaned up"), ("cancel", "ends")])
def test_load_that_is_given_up_is_refused_and_closed(end: str, why: str):
    bench = Bench()
    bench.use(A)
    loaded: list[ActiveModel] = []
    load = bench.models._load
    bench.models._load = lambda *arguments: loaded.append(load(*arguments)) or loaded[-1]  # type: ignore[func-returns-value]
    bench.meanwhile = getattr(bench.models, end)
    with pytest.raises(ConfigError, match=f"not loaded, because the node {why}"):
        bench.models.load(B)
    assert [closed(model) for model in loaded] == [1]


def test_load_in_this_process_that_takes_too_long_is_told_and_a_quick_one_is_not():
    bench = Bench()
    told = threading.Event()
    bench.models._on_hang = lambda error: (bench.hung.append(error), told.set())  # type: ignore[func-returns-value]
    bench.use(A)
    assert bench.hung == []
    bench.meanwhile = lambda: told.wait(60)
    bench.models.forget()  # so that it is loaded here at once
    bench.models.load(dataclasses.replace(A, timeout_s=0.01))
    assert [str(error) for error in bench.hung] == [
        "a.onnx: loading it in this process does not end; raise model_timeout_s"
    ]


def test_load_after_one_that_was_given_up_is_like_any_other():
    bench = Bench()
    bench.models.give_up()
    assert bench.models.load(A).options == A


def test_only_another_file_than_the_one_in_use_needs_to_be_loaded():
    bench = Bench()
    assert not bench.models.needs_load(B)
    bench.use(A)
    assert bench.models.needs_load(B)
    assert not bench.models.needs_load(A)


@pytest.mark.parametrize("how", ["renamed", "written", "link", "gone"])
def test_file_that_was_replaced_since_it_was_loaded_needs_to_be_loaded(tmp_path: Path, how: str):
    first = write_tiny_model(tmp_path / "first.onnx")
    other = write_tiny_model(tmp_path / "other.onnx", classes=("rot", "gruen", "blau"))
    path = tmp_path / "model.onnx"
    path.symlink_to(first) if how == "link" else path.write_bytes(first.read_bytes())
    options = ModelOptions(path, CPU)
    bench = Bench()
    bench.models._load = ActiveModel.load
    bench.use(options)
    assert not bench.models.needs_load(options)
    if how == "renamed":
        other.replace(path)
    elif how == "written":
        path.write_bytes(other.read_bytes())
    else:
        path.unlink()
    if how == "link":
        path.symlink_to(other)
    assert bench.models.needs_load(options)
    bench.models.check(options)  # of another parameter, which is none of the file's
    if how == "gone":
        with pytest.raises(ModelError, match="there is no such model file"):
            bench.models.load(options)
        return
    with bench.models.offering(bench.models.load(options)):
        bench.models.check(dataclasses.replace(options, score_map_class="rot"))
        candidate = bench.models.take_candidate()
    assert candidate is not None
    bench.models.replace(candidate)
    assert candidate.pipeline.spec.class_names == ("rot", "gruen", "blau")
    assert not bench.models.needs_load(options)


def test_candidate_is_checked_and_handed_out_once():
    bench = Bench()
    model = bench.use(A)
    candidate = bench.models.load(B)
    with bench.models.offering(candidate):
        bench.models.check(B)
        assert bench.models.current is model
        assert bench.models.take_candidate() is candidate
        assert bench.models.take_candidate() is None
    assert closed(candidate) == 0


def test_candidate_that_is_not_taken_is_closed():
    bench = Bench()
    bench.use(A)
    candidate = bench.models.load(B)
    with bench.models.offering(candidate), pytest.raises(ConfigError, match="violet"):
        bench.models.check(dataclasses.replace(B, score_map_class="violet"))
    assert closed(candidate) == 1


def test_candidate_that_was_loaded_with_other_options_is_refused():
    bench = Bench()
    bench.use(A)
    candidate = bench.models.load(B)
    changed = dataclasses.replace(B, session=dataclasses.replace(CPU, intra_op_threads=3))
    refused = pytest.raises(ConfigError, match="parameters have changed while it was loaded")
    with bench.models.offering(candidate), refused:
        bench.models.check(changed)
    with bench.models.offering(None), pytest.raises(ConfigError, match="parameters have changed"):
        bench.models.check(B)


def test_candidate_takes_the_place_of_a_model_and_not_of_none():
    bench = Bench()
    bench.use(A)
    candidate = bench.models.load(B)
    bench.models.forget()
    with bench.models.offering(candidate):
        bench.models.check(B)
        assert bench.models.take_candidate() is None
    assert closed(candidate) == 1
    reloaded = bench.models.load(A)
    with pytest.raises(ConfigError, match="the node was cleaned up"):
        bench.models.require_any(reloaded)
    assert closed(reloaded) == 1


def test_same_file_is_not_loaded_again_but_the_class_is_checked():
    bench = Bench()
    bench.use(A)
    bench.models.check(A)
    with pytest.raises(ConfigError, match="violet"):
        bench.models.check(dataclasses.replace(A, score_map_class="violet"))
    assert bench.happened == ["load a.onnx"]


def test_nothing_is_checked_where_there_is_no_model():
    bench = Bench()
    bench.models.check(B)
    assert bench.happened == []


def test_replaced_model_works_until_it_is_freed_and_is_gone_before_memory_is_returned(monkeypatch):
    bench = Bench()
    old = bench.use(A)
    recorder: Any = old.recorder
    new = bench.models.load(B)
    gone = weakref.ref(old)
    states: list[tuple[bool, int]] = []
    monkeypatch.setattr(active_model, "return_memory", lambda: states.append((gone() is None, recorder.closed)))
    bench.models.replace(new)
    assert bench.models.current is new
    assert recorder.closed == 0
    del old
    bench.models.free_replaced()
    assert states == [(True, 1)]
    assert closed(new) == 0


def test_forgotten_model_is_freed_and_the_next_one_is_loaded_as_the_first():
    bench = Bench()
    model = bench.use(A)
    bench.models.forget()
    assert bench.models.current is None
    bench.models.free_replaced()
    assert closed(model) == 1
    bench.use(A)
    assert bench.happened == ["load a.onnx", "load a.onnx"]
    assert bench.models.version == 2


def test_close_ends_every_model_and_cancel_a_load_elsewhere():
    bench = Bench()
    old = bench.use(A)
    new = bench.use(B)
    bench.models.cancel()
    bench.models.close()
    assert [closed(model) for model in (old, new)] == [1, 1]
    assert bench.happened[-1] == "cancel"
    assert sorted(bench.without_maps) == ["a.onnx", "b.onnx"]


def recorder_settings(folder: Path) -> RecorderSettings:
    return RecorderSettings(folder, "folder", margin=1.0, unknown=False, max_mb=10.0, max_rate_hz=1000.0)


def test_model_is_loaded_with_a_recorder_and_a_shadow_that_see_answered_frames(tmp_path: Path):
    options = ModelOptions(
        write_tiny_model(tmp_path / "tiny.onnx"),
        CPU,
        shadow_path=write_tiny_model(tmp_path / "shadow.onnx", classes=("green", "red", "blue")),
        recorder=recorder_settings(tmp_path / "kept"),
    )
    model = ActiveModel.load(options, SaidLogger())
    assert model.shadow is not None
    assert model.recorder is not None
    assert model.is_watched
    image: Any = np.full((24, 32, 3), RED, np.uint8)
    encoded: Any = SimpleNamespace()
    model.offer(encoded, image, model.pipeline.recognise(image), Origin("front", "/front", 5_000_000_000, "optical"))
    model.close()
    assert model.shadow.report().pairs == (("red", "green", 1),)
    assert [path.name for path in (tmp_path / "kept").rglob("*.png")] == ["5000000000.png"]


def test_defect_that_ends_the_shadow_is_logged_with_its_traceback(tmp_path: Path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    logger = SaidLogger()
    one = ActiveModel.load(ModelOptions(model, CPU, shadow_path=model), logger)
    nonsense: Any = None
    assert one.shadow is not None
    one.shadow.offer(nonsense, nonsense, "front", 5)
    one.close()
    traceback, line = logger.texts("error")
    assert traceback.startswith("Traceback")
    assert line.startswith("the shadow or the recorder has ended (")


def test_model_without_background_is_not_watched(tmp_path: Path):
    model = ActiveModel.load(ModelOptions(write_tiny_model(tmp_path / "tiny.onnx"), CPU), SaidLogger())
    assert not model.is_watched
    model.close()


def test_recorder_ends_where_the_shadow_cannot_be_loaded(tmp_path: Path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    options = ModelOptions(model, CPU, tmp_path / "missing.onnx", recorder_settings(tmp_path / "kept"))
    before = set(threading.enumerate())
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        ActiveModel.load(options, SaidLogger())
    assert set(threading.enumerate()) == before


def test_what_frames_and_models_go_through_is_imported_without_ros():
    blocked = ["rclpy", "rcl_interfaces", "sensor_msgs", "std_msgs", "vision_msgs", "diagnostic_msgs", "geometry_msgs"]
    names = ["active_model", "frame_stages", "staged_executor"]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for name in {names!r}: importlib.import_module('cnn_perception.perception_node.' + name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


ASKED = ("top_k", "threshold", "neighbours", "score_map_class", "smoothing_s")


@pytest.mark.parametrize(
    ("spec", "gallery", "unused"),
    [
        (with_score_map(tiny_spec()), object(), []),
        (tiny_spec(), None, ["score_map_class", "neighbours"]),
        (with_score_map(regression_spec({"x": "m"})), object(), ["top_k", "threshold"]),
    ],
)
def test_parameters_that_a_model_has_nothing_for_are_named(spec: ModelSpec, gallery: object, unused: list[str]):
    pipeline: Any = SimpleNamespace(spec=spec, model=SimpleNamespace(gallery=gallery))
    lines = ActiveModel(A, pipeline).unused(ASKED)
    assert [line.partition(" has no effect")[0] for line in lines] == unused


def test_a_model_and_its_shadow_are_freed_when_closed_without_the_garbage_collector(tmp_path):
    options = ModelOptions(
        write_tiny_model(tmp_path / "tiny.onnx"),
        CPU,
        shadow_path=write_tiny_model(tmp_path / "shadow.onnx", classes=("green", "red", "blue")),
        recorder=recorder_settings(tmp_path / "kept"),
    )
    gc.collect()
    before = {id(one) for one in gc.get_objects() if type(one) is InferenceSession}
    gc.disable()
    try:
        ActiveModel.load(options, SaidLogger()).close()
        left = [one for one in gc.get_objects() if type(one) is InferenceSession and id(one) not in before]
    finally:
        gc.enable()

    assert left == []
