"""Owns: what is read of an ONNX file without ONNX. Leaves to others: which models are refused (test_onnx_model)."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_model import write_tiny_model

from cnn_perception.errors import ModelError
from cnn_perception.model.onnx_file import read_onnx_file


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def external_tensor() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key = "location"
    entry.value = "elsewhere.bin"
    return tensor


def nested(depth: int) -> onnx.GraphProto:
    """A graph whose one node holds a graph whose one node holds ... an external tensor."""
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(helper.make_attribute("value", external_tensor()))
    graph = helper.make_graph([node], "inner", [], [])
    for _ in range(depth):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "outer", [], [])
    return graph


def test_metadata_and_digest_are_those_that_onnx_and_hashlib_find(path: Path):
    model = onnx.load(path)
    model.metadata_props.add(key="Straße", value="日本\n")
    path = path.with_name("more.onnx")
    onnx.save(model, path)
    file = read_onnx_file(path)
    assert file.metadata == {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert len(file.metadata) == 2
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("depth", [0, 1, 20])
def test_external_tensor_is_found_however_deep_it_lies(tmp_path: Path, depth: int):
    (tmp_path / "m.onnx").write_bytes(helper.make_model(nested(depth)).SerializeToString())
    with pytest.raises(ModelError, match=r"another file \('elsewhere.bin'\)"):
        read_onnx_file(tmp_path / "m.onnx")


def test_external_tensor_in_a_function_or_a_sparse_tensor_is_found(tmp_path: Path):
    function = helper.make_model(helper.make_graph([], "g", [], []))
    function.functions.append(
        helper.make_function("d", "f", [], ["c"], list(nested(0).node), [helper.make_opsetid("", 17)])
    )
    sparse = helper.make_model(helper.make_graph([], "g", [], []))
    sparse.graph.sparse_initializer.add().values.CopyFrom(external_tensor())
    for model in (function, sparse):
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="another file"):
            read_onnx_file(tmp_path / "m.onnx")


def test_numbers_written_in_too_many_bytes_hide_nothing(tmp_path: Path):
    """protobuf reads 0x88 0x00 as the number 8, just as it reads 0x08."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    entry = b"\x0a\x88\x00location" + field(2, b"elsewhere.bin")
    model = field(7, field(5, field(13, entry) + bytes([14 << 3, 0x81, 0x80, 0x00])))
    tensor = onnx.load_model_from_string(model).graph.initializer[0]
    assert (tensor.data_location, tensor.external_data[0].key) == (TensorProto.EXTERNAL, "location")
    (tmp_path / "m.onnx").write_bytes(model)
    with pytest.raises(ModelError, match=r"another file \('elsewhere.bin'\)"):
        read_onnx_file(tmp_path / "m.onnx")


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1), bytes_=st.binary(min_size=1, max_size=6), cut=st.booleans())
def test_damage_never_ends_in_anything_but_a_refusal_or_a_model(path: Path, position: float, bytes_: bytes, cut: bool):
    data = path.read_bytes()
    at = int(position * len(data))
    damaged = path.with_name("damaged.onnx")
    damaged.write_bytes(data[:at] + bytes_ + (b"" if cut else data[at + len(bytes_) :]))
    with contextlib.suppress(ModelError):
        read_onnx_file(damaged)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_random_bytes_are_no_model(tmp_path: Path, content: bytes):
    (tmp_path / "noise.onnx").write_bytes(b"\xff" + content)
    with pytest.raises(ModelError):
        read_onnx_file(tmp_path / "noise.onnx")


def test_path_that_no_system_accepts_is_refused():
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx_file(Path("a\0b.onnx"))
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx_file(Path("a" * 5000))


def test_metadata_that_is_no_utf_8_is_refused_and_not_replaced(path: Path, tmp_path: Path):
    data = path.read_bytes()
    assert data.count(b'"green"') == 1
    (tmp_path / "m.onnx").write_bytes(data.replace(b'"green"', b'"gr\xffen"'))
    with pytest.raises(ModelError, match="can't decode byte 0xff"):
        read_onnx_file(tmp_path / "m.onnx")
