"""Owns: the certificate of a model file: every output is compared, by the file's own bytes, and what misses is refused.

Leaves to others: the rule's share of false alarms (test_exported_rule), smaller graphs (test_quantise).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import checkpoint_of
from onnx import numpy_helper
from PIL import Image
from torch import nn

from cnn_perception import errors
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import Outputs
from cnn_perception.model.spec import FP32
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, export
from training.export import exporting
from training.graphs import certificate
from training.graphs.certificate import TOLERANCES, Network, certify, tolerances
from training.graphs.parity import ParityError
from training.networks import backbones

COUNT = 6


class Exported:
    """A small convolutional network with all outputs, its file, and its answers by onnxruntime and torch alone."""

    def __init__(self, folder):
        torch.manual_seed(0)
        self.model = backbones.build("resnet18", 5).eval()
        nn.init.normal_(self.model.fc.weight, std=0.3)
        random = np.random.default_rng(0)
        self.paths = []
        for index in range(COUNT):
            cells = random.integers(0, 256, (4, 5, 3), np.uint8)
            self.paths.append(str(folder / f"{index}.png"))
            Image.fromarray(cells).resize((40, 32), Image.Resampling.BICUBIC).save(self.paths[-1])
        self.checkpoint = checkpoint_of("resnet18", self.model, (32, 40), val_images=self.paths)
        self.path = folder / "m.onnx"
        self.spec = export.export(self.checkpoint, self.path)
        self.network = Network(self.model, backbones.split(self.model, 32, 40))
        self.images = np.stack(
            [preprocess(decode_file_bytes(open(path, "rb").read()), self.spec.input) for path in self.paths]  # noqa: PTH123, SIM115
        )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.set_num_threads(1)
    return Exported(tmp_path_factory.mktemp("certificate"))


def test_the_certificate_names_every_output_with_its_tolerance_and_where_it_was_measured(exported):
    found = exported.spec.parity

    assert {check.output: check.tolerance for check in found.outputs} == TOLERANCES["fp32"]
    assert all(check.difference <= check.tolerance for check in found.outputs)
    assert (found.provider, found.runtime) == ("CPUExecutionProvider", onnxruntime.__version__)
    assert (found.source, found.images) == ("validation", COUNT)


def test_its_figures_are_those_of_the_files_bytes_by_onnxruntime_and_of_torch(exported):
    session = onnxruntime.InferenceSession(exported.path.read_bytes(), providers=["CPUExecutionProvider"])
    logits, embedding = session.run(["logits", "embedding"], {"image": exported.images})
    entering = []
    hook = exported.model.fc.register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    with torch.no_grad():
        expected = exported.model(torch.from_numpy(exported.images))
    hook.remove()

    by_name = {check.output: check.difference for check in exported.spec.parity.outputs}
    assert exported.spec.parity.max_logit_difference == pytest.approx(np.abs(logits - expected.numpy()).max(), abs=3e-6)
    scores = torch.softmax(torch.from_numpy(logits).double(), 1) - torch.softmax(expected.double(), 1)
    assert by_name["scores"] == pytest.approx(scores.abs().max(1).values.mean().item(), abs=1e-6)
    vectors = entering[0].double().numpy()
    relative = np.sqrt(((embedding - vectors) ** 2).mean() / (vectors**2).mean())
    assert by_name["embedding"] == pytest.approx(relative, abs=1e-6)


class Tampered:
    """A loaded file, one of whose outputs is another than it gives."""

    def __init__(self, model, output, share):
        self._model, self._output, self._share = model, output, share
        self.spec, self.provider, self.score_map_place = model.spec, model.provider, model.score_map_place

    def run(self, images):
        return [self._changed(one) for one in self._model.run(images)]

    def _changed(self, one):
        if self._output == "score_map":
            return one
        value = getattr(one, self._output)
        noise = np.random.default_rng(0).normal(0, self._share * np.abs(value).max(), value.shape).astype(np.float32)
        return dataclasses.replace(one, **{self._output: value + noise})

    def score_map(self, image):
        found = self._model.score_map(image)
        return found + self._share * np.abs(found).max() if self._output == "score_map" else found


@pytest.mark.parametrize("output", ["logits", "embedding", "activation", "score_map"])
def test_each_output_that_is_wrong_is_named_and_refused(exported, output):
    model = OnnxModel(exported.path, certificate.ON_CPU)
    allowed = tolerances("fp32", None)
    certify(Tampered(model, output, 1e-7), exported.network, exported.checkpoint, COUNT, allowed)

    with pytest.raises(ParityError, match=f"the output {output} of the fp32 file differs by .* nothing is written"):
        certify(Tampered(model, output, 0.05), exported.network, exported.checkpoint, COUNT, allowed)


def test_scores_that_differ_are_refused_where_the_logits_are_allowed_to(exported):
    wrong = Tampered(OnnxModel(exported.path, certificate.ON_CPU), "logits", 0.05)
    allowed = tolerances("fp32", None) | {"logits": 10.0}

    with pytest.raises(ParityError, match="the output scores of the fp32 file differs"):
        certify(wrong, exported.network, exported.checkpoint, COUNT, allowed)


def test_the_activation_is_compared_where_both_show_the_same_class(exported):
    model = OnnxModel(exported.path, certificate.ON_CPU)

    class Turned(Tampered):
        def run(self, images):
            found = self._model.run(images)
            one = found[0]
            return [Outputs(one.logits[::-1].copy(), one.activation * 0, one.embedding), *found[1:]]

    allowed = {**dict.fromkeys(TOLERANCES["fp32"], 1e-3), "logits": 1e9, "scores": 2.0}
    found = certify(Turned(model, "", 0), exported.network, exported.checkpoint, COUNT, allowed)

    assert found.top1_agreement == pytest.approx((COUNT - 1) / COUNT)


def test_in_a_smaller_precision_logits_are_measured_by_their_range(exported):
    model = OnnxModel(exported.path, certificate.ON_CPU)
    with torch.no_grad():
        expected = exported.model(torch.from_numpy(exported.images)).numpy()
    wrong = Tampered(model, "logits", 0.01)
    wrong.spec = dataclasses.replace(model.spec, precision=dataclasses.replace(FP32, precision="int8"))

    found = certify(wrong, exported.network, exported.checkpoint, COUNT, tolerances("int8", None))

    assert found.outputs[0].difference == pytest.approx(found.max_logit_difference / np.ptp(expected), rel=1e-3)
    assert 1e-3 < found.outputs[0].difference < TOLERANCES["int8"]["logits"] == 0.05
    with pytest.raises(ParityError, match=r"logits of the int8 file differs by .* of their range .* export it in fp32"):
        certify(wrong, exported.network, exported.checkpoint, COUNT, tolerances("int8", 1e-3))


def test_the_tolerances_of_the_precisions_are_these():
    assert TOLERANCES["fp32"]["logits"] == 1e-3
    assert set(TOLERANCES["fp16"].values()) == {5e-3}
    assert (TOLERANCES["int8"]["logits"], TOLERANCES["int8"]["scores"]) == (0.05, 0.05)
    assert tolerances("int8", 0.1)["embedding"] == 2 * TOLERANCES["int8"]["embedding"]


def test_what_is_measured_is_what_was_written_and_an_older_file_stays(exported, tmp_path, monkeypatch, capsys):
    """The graph in memory is right; what reaches the disk has another weight."""
    write = exporting._write

    def damaged(file, proto, spec, embedded):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        tensor = max(copy.graph.initializer, key=lambda one: len(one.raw_data))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), tensor.name))
        write(file, copy, spec, embedded)

    output = tmp_path / "o" / "m.onnx"
    output.parent.mkdir()
    before = exported.path.read_bytes()
    output.write_bytes(before)
    checkpoint.save(tmp_path / "best.pt", exported.checkpoint)
    monkeypatch.setattr(exporting, "_write", damaged)

    code = export.main(["--checkpoint", str(tmp_path / "best.pt"), "--output", str(output)])

    assert code == errors.EXIT_BELOW_TARGET
    assert [path.name for path in output.parent.iterdir()] == ["m.onnx"]
    assert output.read_bytes() == before
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]) == 1
