"""Owns: the order in which providers are tried, and what is said of it. ONNX Runtime's GPUs are played here.

The stand-in opens the model on the CPU and reports the providers that the test gave it.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
from tiny_model import tiny_spec, write_tiny_model

from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.model import session as module
from cnn_perception.model.nvidia import Gpu
from cnn_perception.model.onnx_file import OnnxFile, read_onnx_file
from cnn_perception.model.providers import CPU, CUDA, OPENVINO, TENSORRT, SessionOptions
from cnn_perception.model.session import ProviderSession, open_session, reason_of
from cnn_perception.model.spec import ModelSpec


class Machine:
    """What a machine has: providers that start, and how many nodes of a graph each of them takes."""

    def __init__(self, starting: list[str], nodes: dict[str, int] | None = None) -> None:
        self.starting = starting
        self.nodes = nodes or {starting[0]: 8}
        self.raising: dict[str, Exception] = {}
        self.asked: list[list[tuple[str, dict[str, Any]]]] = []

    def open(
        self, data: bytes, settings: Any, providers: list[tuple[str, dict[str, Any]]], enable_fallback: int
    ) -> Any:
        assert enable_fallback == 0
        self.asked.append(providers)
        for name, _ in providers:
            if name in self.raising:
                raise self.raising[name]
        started = [name for name, _ in providers if name in self.starting]
        parts = [SimpleNamespace(ep_name=name, get_nodes=lambda n=count: [0] * n) for name, count in self.nodes.items()]
        return SimpleNamespace(get_providers=lambda: started, get_provider_graph_assignment_info=lambda: parts)


@pytest.fixture
def file(tmp_path: Path) -> OnnxFile:
    return read_onnx_file(write_tiny_model(tmp_path / "tiny.onnx"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine([CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", machine.open)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "__version__", "1.31.1")  # of a newer one it is said that it was not tried
    return machine


def opened(file: OnnxFile, options: SessionOptions, spec: ModelSpec | None = None, **more: Any) -> ProviderSession:
    return open_session(
        file, spec or tiny_spec(), options, more.get("warm_up", lambda *_: None), more.get("log", lambda _: None)
    )


def names(providers: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in providers]


def test_preferred_provider_in_use_is_no_fallback(machine: Machine, file: OnnxFile):
    found = opened(file, SessionOptions())
    assert (found.provider, found.fallback) == (CUDA, "")
    assert found.placement == "CUDAExecutionProvider 8 of 8"


def test_provider_that_does_not_start_is_said_and_the_next_keeps_its_settings(machine: Machine, file: OnnxFile):
    machine.raising[TENSORRT] = RuntimeError("x.cc:729 void f(int)\n Please install\nTensorRT")
    found = opened(file, SessionOptions(["tensorrt", "cuda"], device_id=2))
    assert found.provider == CUDA
    assert found.fallback.startswith("TensorrtExecutionProvider cannot be started (")
    assert "\n" not in found.fallback
    assert [names(asked) for asked in machine.asked] == [[TENSORRT, CUDA, CPU], [CUDA, CPU]]
    assert machine.asked[1][0][1]["device_id"] == 2


def test_gpu_that_starts_and_cannot_compute_is_passed_over(machine: Machine, file: OnnxFile):
    def warm_up(session: Any, _: Any) -> None:
        if session.get_providers()[0] == CUDA:
            raise module.ORT_ERRORS[-1]("no kernel image is available for execution on the device")

    machine.nodes = {CPU: 8}
    found = opened(file, SessionOptions(), warm_up=warm_up)
    assert found.provider == CPU
    assert found.fallback.startswith("CUDAExecutionProvider cannot be started (")


def test_provider_that_onnx_runtime_leaves_out_without_a_word_is_noticed(machine: Machine, file: OnnxFile):
    machine.starting = [CPU]
    machine.nodes = {CPU: 8}
    found = opened(file, SessionOptions(["tensorrt", "cuda", "cpu"]))
    assert found.provider == CPU
    assert [part.split(" ")[0] for part in found.fallback.split("; ")] == [TENSORRT, CUDA]


def test_library_that_cannot_be_loaded_is_the_reason_given(
    machine: Machine, file: OnnxFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What users meet most: CUDA is installed, one of its libraries is not. ONNX Runtime says so in its log alone."""
    (tmp_path / "libcuda_provider.so").write_bytes(b"no library")
    machine.starting = [CPU]
    machine.nodes = {CPU: 8}
    monkeypatch.setattr(module, "read_gpu", lambda _: None)
    monkeypatch.setattr(module, "_library", lambda _: tmp_path / "libcuda_provider.so")
    assert "(" + str(tmp_path / "libcuda_provider.so") + ": " in opened(file, SessionOptions()).fallback


def test_provider_that_runs_a_lesser_part_of_the_graph_is_not_the_one_in_use(machine: Machine, file: OnnxFile):
    machine.starting = [TENSORRT, CUDA, CPU]
    machine.nodes = {TENSORRT: 10, CUDA: 45, CPU: 1}
    found = opened(file, SessionOptions(["tensorrt", "cuda"]))
    assert found.provider == CUDA
    assert found.fallback == "TensorrtExecutionProvider takes only 10 of 56 nodes of the graph"
    assert found.placement == (
        "CUDAExecutionProvider 45 of 56, TensorrtExecutionProvider 10 of 56, CPUExecutionProvider 1 of 56"
    )


def test_provider_missing_from_the_build_is_said(machine: Machine, file: OnnxFile):
    found = opened(file, SessionOptions(["openvino", "cuda"]))
    assert (found.provider, found.fallback) == (CUDA, f"{OPENVINO} is not in this build of ONNX Runtime")


def test_int8_model_goes_past_tensorrt_and_it_is_said(machine: Machine, file: OnnxFile):
    spec = tiny_spec()
    spec = dataclasses.replace(spec, precision=dataclasses.replace(spec.precision, precision="int8"))
    found = opened(file, SessionOptions(["tensorrt", "cuda"]), spec)
    assert found.provider == CUDA
    assert found.fallback == f"{TENSORRT} cannot compute unsigned 8-bit activations, only fp32 and fp16 models"
    assert names(machine.asked[0]) == [CUDA, CPU]


def test_gpu_that_is_required_and_missing_is_one_error(machine: Machine, file: OnnxFile):
    machine.starting = [CPU]
    machine.nodes = {CPU: 8}
    with pytest.raises(ConfigError, match=r"require_gpu is set, but only CPU.* runs .*tiny\.onnx: CUDA.* cannot be st"):
        opened(file, SessionOptions(require_gpu=True))


def test_gpu_that_is_required_and_leaves_most_to_the_cpu_is_an_error(machine: Machine, file: OnnxFile):
    machine.nodes = {CUDA: 3, CPU: 5}
    with pytest.raises(ConfigError, match="CUDAExecutionProvider takes only 3 of 8 nodes"):
        opened(file, SessionOptions(require_gpu=True))


def test_gpu_that_is_required_and_there_is_used(machine: Machine, file: OnnxFile):
    assert opened(file, SessionOptions(["tensorrt", "cuda"], require_gpu=True)).provider in (TENSORRT, CUDA)


def test_model_that_not_even_the_cpu_runs_is_the_models_fault(machine: Machine, file: OnnxFile):
    machine.raising = {CUDA: RuntimeError("no GPU"), CPU: module.ORT_ERRORS[-1]("invalid graph")}
    with pytest.raises(
        ModelError, match=r"tiny\.onnx: ONNX Runtime .* cannot run it \(invalid graph\); export it again"
    ):
        opened(file, SessionOptions(require_gpu=True))


def test_refusal_of_the_graph_is_not_taken_for_a_failing_provider(machine: Machine, file: OnnxFile):
    def warm_up(*_: Any) -> None:
        raise ModelError("its input is wrong")

    with pytest.raises(ModelError, match="its input is wrong"):
        opened(file, SessionOptions(), warm_up=warm_up)
    assert len(machine.asked) == 1


def test_engines_of_tensorrt_lie_in_a_folder_of_this_model_gpu_and_versions(
    machine: Machine, file: OnnxFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    machine.starting = [TENSORRT, CUDA, CPU]
    machine.nodes = {TENSORRT: 8}
    monkeypatch.setattr(module, "read_gpu", lambda _: Gpu("NVIDIA Orin", "8.7", "12.8"))
    monkeypatch.setattr(module, "tensorrt_version", lambda _: 101303)
    said: list[str] = []
    options = SessionOptions(["tensorrt"], warm_up_batches=(1, 2), cache_dir=str(tmp_path / "cache"))
    assert opened(file, options, log=said.append).fallback == ""
    folder = Path(machine.asked[0][0][1]["trt_engine_cache_path"])
    versions = f"onnxruntime{onnxruntime.__version__}_tensorrt101303_no-tf32_cuda12.8_NVIDIA-Orin_sm8.7"
    assert folder == tmp_path / "cache" / versions / f"{file.sha256}_batch2"
    assert len(said) == 1
    opened(file, options, log=said.append)
    assert len(said) == 1  # nothing was built


@pytest.mark.parametrize("inherited", [None, "1"])
@pytest.mark.parametrize("provider", ["tensorrt", "cuda"])
def test_no_gpu_computes_in_tf32_whatever_the_environment_says(
    machine: Machine, file: OnnxFile, provider: str, inherited: str | None, monkeypatch: pytest.MonkeyPatch
):
    """NVIDIA's libraries read the variable when they are loaded, which is before the session is opened."""
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if inherited is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", inherited)
    found: list[str | None] = []
    monkeypatch.setattr(module, "has_driver", lambda: True)
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda **_: found.append(os.environ.get("NVIDIA_TF32_OVERRIDE")), raising=False
    )
    opened(file, SessionOptions([provider]))
    assert found
    assert set(found) == {"0"}


@pytest.mark.parametrize(
    ("version", "is_said"), [("1.19.2", True), ("1.20.0", False), ("1.31.1", False), ("1.32.0", True), ("2.0.0", True)]
)
def test_release_that_was_never_tried_with_a_gpu_is_said_where_the_gpu_is_not_used(
    machine: Machine, file: OnnxFile, version: str, is_said: bool, monkeypatch: pytest.MonkeyPatch
):
    machine.starting = [CPU]
    machine.nodes = {CPU: 8}
    machine.raising = {CUDA: ValueError("unknown option")}
    monkeypatch.setattr(onnxruntime, "__version__", version)
    fallback = opened(file, SessionOptions()).fallback
    assert (f"1.20 to 1.31 were tried, this is {version}" in fallback) is is_said


def test_missing_gpu_leaves_tensorrt_without_a_cache_and_says_so(machine: Machine, file: OnnxFile):
    said: list[str] = []
    machine.starting = [TENSORRT, CPU]
    machine.nodes = {TENSORRT: 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_gpu", lambda _: (_ for _ in ()).throw(LookupError("no such GPU")))
        opened(file, SessionOptions(["tensorrt"]), log=said.append)
    assert said == ["TensorRT built its engine, and will at each start, for it cannot be kept: no such GPU"]
    assert "trt_engine_cache_enable" not in machine.asked[0][0][1]


def test_long_texts_of_onnx_runtime_keep_their_end():
    assert reason_of(ValueError(" a\n\tb ")) == "a b"
    assert reason_of(ValueError("signature " * 100 + "the reason")).endswith("the reason")
    assert len(reason_of(ValueError("x" * 1000))) == 303


def test_old_onnx_runtime_that_counts_no_nodes_names_its_first_provider(
    file: OnnxFile, machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    session = SimpleNamespace(get_providers=lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    found = opened(file, SessionOptions())
    assert (found.provider, found.fallback, found.placement) == (CUDA, "", "")
