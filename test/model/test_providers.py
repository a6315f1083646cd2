"""Owns: names of providers, options of a session, and what each provider is told. Opening: test_session."""

from __future__ import annotations

import dataclasses
import json
import mmap
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from tiny_model import tiny_spec

from cnn_perception.errors import ConfigError
from cnn_perception.model.providers import (
    CPU,
    CUDA,
    OPENVINO,
    TENSORRT,
    SessionOptions,
    cache_root,
    provider_options,
    unsupported_reason,
)
from cnn_perception.model.spec import ModelSpec, Precision

LIBRARIES = Path(onnxruntime.__file__).parent / "capi"


def spec_of(precision: Precision) -> ModelSpec:
    spec = tiny_spec()
    return dataclasses.replace(spec, precision=dataclasses.replace(spec.precision, precision=precision))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["cpu"], (CPU,)),
        (["cuda"], (CUDA, CPU)),
        (["tensorrt", "cuda", "cpu"], (TENSORRT, CUDA, CPU)),
        (["openvino", "CPUExecutionProvider"], (OPENVINO, CPU)),
        (["CUDAExecutionProvider", "cuda"], (CUDA, CPU)),
        (["cpu", "cuda"], (CPU, CUDA)),
    ],
)
def test_short_and_full_names_mean_the_same_and_the_cpu_is_the_last_resort(given: list[str], expected: tuple[str, ...]):
    assert SessionOptions(given).provider_order == expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"providers": []}, "providers is empty; choose from fastest, tensorrt, cuda, openvino, cpu, "),
        ({"providers": [""]}, "providers is empty"),
        ({"providers": ["GPU"]}, r"has no \['GPU'\]; choose from fastest, tensorrt"),
        ({"providers": "cuda"}, "has no"),
        ({"intra_op_threads": -1}, "choose 0"),
        ({"intra_op_threads": 1025}, "choose 0"),
        ({"score_map_threads": -1}, "score_map_threads is -1; choose 0"),
        ({"warm_up_batches": ()}, "choose sizes from 1 on"),
        ({"warm_up_batches": (0,)}, "choose sizes from 1 on"),
        ({"device_id": -1}, "choose 0 to 255"),
        ({"providers": ["cpu"], "require_gpu": True}, r"no GPU, only \['cpu'\]; add cuda"),
        ({"providers": ["openvino"], "require_gpu": True}, "no GPU"),
    ],
)
def test_nonsense_options_are_refused_with_the_choice(wrong: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        SessionOptions(**wrong)


def test_engines_are_kept_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root(SessionOptions()) == tmp_path / ".cache" / "cnn_perception"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root(SessionOptions()) == tmp_path / ".cache" / "cnn_perception"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_root(SessionOptions()) == Path("/var/cache/cnn_perception")
    assert cache_root(SessionOptions(cache_dir="~/engines")) == tmp_path / "engines"


def test_user_without_a_home_is_said(monkeypatch: pytest.MonkeyPatch):
    def fail(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", fail)
    with pytest.raises(LookupError, match="home"):
        cache_root(SessionOptions())


def test_a_cache_in_the_home_of_nobody_is_refused():
    with pytest.raises(ConfigError, match="there is no user 'nobody_of_this_name'"):
        cache_root(SessionOptions(cache_dir="~nobody_of_this_name/engines"))


def test_one_engine_of_tensorrt_serves_every_batch_up_to_the_largest():
    told = provider_options(TENSORRT, spec_of("fp32"), SessionOptions(["tensorrt"], warm_up_batches=(1, 2, 3)))
    assert told["trt_profile_min_shapes"] == "image:1x3x24x32"
    assert told["trt_profile_opt_shapes"] == told["trt_profile_max_shapes"] == "image:3x3x24x32"
    assert not [name for name in told if "cache" in name]


def test_engines_of_tensorrt_are_kept_in_the_folder_given(tmp_path: Path):
    told = provider_options(TENSORRT, spec_of("fp32"), SessionOptions(["tensorrt"]), tmp_path)
    assert told["trt_engine_cache_path"] == told["trt_timing_cache_path"] == str(tmp_path)
    assert told["trt_engine_cache_enable"] is told["trt_timing_cache_enable"] is True


@pytest.mark.parametrize(("precision", "half", "tf32"), [("fp32", False, False), ("fp16", True, True)])
def test_no_provider_computes_less_exactly_than_the_model_was_measured(precision: Precision, half: bool, tf32: bool):
    spec = spec_of(precision)
    assert provider_options(TENSORRT, spec, SessionOptions())["trt_fp16_enable"] is half
    assert provider_options(CUDA, spec, SessionOptions())["use_tf32"] is tf32
    properties = json.loads(provider_options(OPENVINO, spec, SessionOptions())["load_config"])["CPU"]
    assert properties["INFERENCE_PRECISION_HINT"] == "f32"


def test_threads_and_device_reach_the_providers():
    options = SessionOptions(intra_op_threads=3, device_id=1)
    told = {name: provider_options(name, tiny_spec(), options) for name in (TENSORRT, CUDA, OPENVINO, CPU)}
    assert told[TENSORRT]["device_id"] == told[CUDA]["device_id"] == 1
    assert json.loads(told[OPENVINO]["load_config"])["CPU"]["INFERENCE_NUM_THREADS"] == "3"
    assert told[CPU] == {}


def test_int8_model_is_not_offered_to_tensorrt():
    assert "unsigned" in unsupported_reason(TENSORRT, spec_of("int8"))
    assert not unsupported_reason(TENSORRT, spec_of("fp16"))
    assert not any(unsupported_reason(name, spec_of("int8")) for name in (CUDA, OPENVINO, CPU))


@pytest.mark.parametrize(
    ("name", "library"),
    [
        (TENSORRT, "libonnxruntime_providers_tensorrt.so"),
        (CUDA, "libonnxruntime_providers_cuda.so"),
        (OPENVINO, "libonnxruntime_providers_openvino.so"),
    ],
)
def test_every_setting_is_one_that_the_installed_onnx_runtime_knows(name: str, library: str, tmp_path: Path):
    if not (LIBRARIES / library).exists():
        pytest.skip(f"this build of ONNX Runtime has no {library}")
    told = provider_options(name, tiny_spec(), SessionOptions(), tmp_path)
    words = [*told, *(value for value in told.values() if value in ("HEURISTIC", "kSameAsRequested"))]
    with (LIBRARIES / library).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        assert [word for word in words if binary.find(word.encode()) < 0] == []
