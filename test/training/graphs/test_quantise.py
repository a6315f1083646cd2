"""Owns: graphs in 8-bit integers and half precision: what they contain, what they answer, when they are refused.

Leaves to others: the float32 graph they are made from (test_export), the metrics themselves (test_metrics).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from PIL import Image
from sklearn.metrics import average_precision_score, r2_score
from torch import nn
from torchvision import models

from cnn_perception import errors
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, PrecisionRecord
from cnn_perception.model.subgraph import subgraph
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, export
from training.checkpoint import UNCALIBRATED, Checkpoint
from training.graphs import quantise
from training.graphs.parity import ParityError
from training.graphs.quantise import Reduction

CPU = SessionOptions(providers=("CPUExecutionProvider",))
CLASSES = ("go", "stop", "turn")
SIZE = InputSpec(64, 64, "squash", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
CONVOLUTIONS = 20  # of a ResNet-18: He et al. 2015, with three of 1x1 in the shortcuts


def write_images(folder, count, seed):
    """Blurred noise, that is images with structure, as PNG."""
    folder.mkdir()
    rng, paths = np.random.default_rng(seed), []
    for index in range(count):
        cells = rng.integers(0, 256, (rng.integers(2, 9), rng.integers(2, 9), 3), np.uint8)
        paths.append(str(folder / f"{index:02}.png"))
        Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC).save(paths[-1])
    return tuple(paths)


def tensors(paths):
    return np.stack([preprocess(decode_file_bytes(Path(path).read_bytes()), SIZE) for path in paths])


@dataclasses.dataclass
class Case:
    checkpoint: Checkpoint
    images: np.ndarray
    logits: np.ndarray
    proto: onnx.ModelProto
    fp32: OnnxModel


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A ResNet-18 whose answers differ from image to image, and torch's own answers; the first label is wrong."""
    folder = tmp_path_factory.mktemp("quantise")
    train, val = write_images(folder / "train", 12, 1), write_images(folder / "val", 20, 2)
    torch.manual_seed(3)
    model, images = models.resnet18(weights=None, num_classes=len(CLASSES)), tensors(val)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.train()(torch.from_numpy(tensors(train)))
        model.eval()
        model.fc.weight *= 5
        model.fc.bias -= model(torch.from_numpy(images)).mean(0)
        logits = model(torch.from_numpy(images)).numpy()
    truth = logits.argmax(1)
    assert np.bincount(truth, minlength=3).min() >= 2  # else there is little to lose
    truth[0] = (truth[0] + 1) % 3
    record = {"mode": "finetune", "weights": "none", "data": "signs", "data_sha256": "ab", "train_images": len(train)}
    record |= {"val_images": len(val), "metrics": {"val_top1": 0.95}}
    made = Checkpoint(
        backbone="resnet18",
        task="multiclass",
        class_names=CLASSES,
        units=(),
        scaling=(),
        input=SIZE,
        model=model.state_dict(),
        training=record,
        train_images=train,
        val_images=val,
        calibration=UNCALIBRATED,
        config={},
        resume=None,
        val_targets=tuple((int(label),) for label in truth),
    )
    export.export(made, folder / "fp32.onnx")
    return Case(made, images, logits, onnx.load(folder / "fp32.onnx"), OnnxModel(folder / "fp32.onnx", CPU))


def run(made, folder, *options):
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder / "best.pt", made)
    return export.main(["--checkpoint", str(folder / "best.pt"), "--output", str(folder / "o" / "m.onnx"), *options])


@pytest.fixture(scope="module")
def int8(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    # of random weights few answers are sure, so that some may be lost
    options = ("--int8", "--calibration-images", "8", "--max-accuracy-loss", "0.2", "--tolerance", "0.2")
    assert run(case.checkpoint, folder, *options) == errors.EXIT_OK
    return folder / "o" / "m.onnx"


def outputs_of(model, images):
    outputs = model.run(images)
    return [np.stack([getattr(o, name) for o in outputs]) for name in ("logits", "embedding", "activation")]


def test_the_int8_file_says_what_it_is_and_what_it_cost(case, int8):
    model = OnnxModel(int8, CPU)

    truth = [label for (label,) in case.checkpoint.val_targets]
    after = (outputs_of(model, case.images)[0].argmax(1) == truth).mean()
    assert model.spec.precision == PrecisionRecord("int8", 8, 20, "top1", before=0.95, after=pytest.approx(after))
    assert model.spec.class_names == CLASSES
    assert model.spec.activation == case.fp32.spec.activation
    assert model.spec.score_map == case.fp32.spec.score_map is not None
    assert int8.stat().st_size < 0.3 * case.fp32.path.stat().st_size


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_a_smaller_file_states_its_own_parity_and_not_that_of_the_fp32_file(case, tmp_path, capsys, kind):
    # random weights are sensitive: those of a trained network keep to the tolerance of 5 % of int8
    options = (f"--{kind}", "--max-accuracy-loss", "0.2", "--tolerance", "0.2")
    assert run(case.checkpoint, tmp_path, *options) == errors.EXIT_OK

    model = OnnxModel(tmp_path / "o" / "m.onnx", CPU)
    logits = outputs_of(model, case.images)[0]
    difference = np.abs(logits - case.logits).max()
    parity = model.spec.parity
    assert parity.max_logit_difference == pytest.approx(difference, rel=1e-2)
    assert parity.max_logit_difference > 10 * case.fp32.spec.parity.max_logit_difference
    assert parity.top1_agreement == (logits.argmax(1) == case.logits.argmax(1)).mean()
    assert (parity.source, parity.images, parity.tolerance) == ("validation", 20, 0.2)
    share = difference / np.ptp(case.logits)
    assert parity.outputs[0].difference == pytest.approx(share, rel=1e-2)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("parity")]
    assert f"logits within {difference:.2g} (of the {kind} file itself: {share:.2%} of their range" in line


def test_numbers_of_a_smaller_file_agree_where_all_are_within_the_tolerance(case, tmp_path):
    scaling = ((0.5, 2.0), (-1.0, 0.1), (0.0, 30.0))
    targets = tuple(map(tuple, case.logits.tolist()))  # the network gives standard deviations
    made = dataclasses.replace(
        case.checkpoint, task="regression", units=("", "", ""), scaling=scaling, val_targets=targets
    )
    mean, deviation = np.array(scaling).T

    spec = export.export(made, tmp_path / "m.onnx", tolerance=0.3, reduction=Reduction("int8", 8, 1.0))
    found = (outputs_of(OnnxModel(tmp_path / "m.onnx", CPU), case.images)[0] - mean) / deviation
    differences = np.abs(found - case.logits)
    assert spec.parity.max_logit_difference == pytest.approx(differences.max(), rel=1e-2)
    assert spec.parity.outputs[0].difference == pytest.approx(differences.max() / np.ptp(case.logits), rel=1e-2)
    assert spec.parity.top1_agreement == 1.0
    with pytest.raises(ParityError, match="the output logits of the int8 file differs by"):
        export.export(made, tmp_path / "n.onnx", reduction=Reduction("int8", 8, 1.0))
    assert not (tmp_path / "n.onnx").exists()


def test_a_smaller_file_whose_logits_are_no_numbers_is_refused_whatever_accuracy_may_be_lost(
    case, tmp_path, monkeypatch, capsys
):
    convert = quantise.to_fp16

    def overflowing(proto):
        half = convert(proto)
        for tensor in half.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16 and list(tensor.dims) == [
                len(CLASSES)
            ]:  # the bias of the logits
                tensor.CopyFrom(numpy_helper.from_array(np.full(len(CLASSES), np.inf, np.float16), tensor.name))
        return half

    monkeypatch.setattr(quantise, "to_fp16", overflowing)

    assert run(case.checkpoint, tmp_path, "--fp16", "--max-accuracy-loss", "1") == errors.EXIT_BELOW_TARGET

    assert list((tmp_path / "o").iterdir()) == []
    said = capsys.readouterr().err
    assert "the output logits of the fp16 file differs by inf" in said
    assert "nothing is written; export it in fp32" in said


def test_the_int8_file_answers_nearly_as_torch_does_for_any_number_of_images(case, int8):
    logits, embedding, activation = outputs_of(OnnxModel(int8, CPU), case.images)
    _, expected_embedding, expected_map = outputs_of(case.fp32, case.images)

    assert np.abs(logits - case.logits).max() < 0.2 * np.ptp(case.logits)
    assert np.abs(logits - case.logits).mean() < 0.06 * np.ptp(case.logits)
    assert (logits.argmax(1) == case.logits.argmax(1)).mean() >= 0.8
    assert np.corrcoef(embedding.ravel(), expected_embedding.ravel())[0, 1] > 0.95
    assert np.corrcoef(activation.ravel(), expected_map.ravel())[0, 1] > 0.9
    # the head is as exact as before: the map still adds up to the logit (Zhou et al. 2016)
    bias = case.checkpoint.model["fc.bias"].numpy()
    np.testing.assert_allclose(activation.mean((1, 2)) + bias[logits.argmax(1)], logits.max(1), atol=1e-3)


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_a_smaller_file_has_nearly_the_same_score_map_of_a_larger_image(case, int8, tmp_path, kind):
    path = int8
    if kind == "fp16":
        path = tmp_path / "fp16.onnx"
        onnx.save(quantise.to_fp16(case.proto), path)
    image = nn.functional.interpolate(torch.from_numpy(case.images[:1]), (160, 192), mode="bilinear").numpy()

    small, large = OnnxModel(path, CPU).score_map(image), case.fp32.score_map(image)

    assert small.shape == large.shape == (3, 4, 5)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > {"int8": 0.9, "fp16": 0.9999}[kind]


def test_onnx_runtime_computes_every_convolution_in_integers(int8, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    # as the node runs it: the score map, whose head has convolutions in float32, has a session of its own
    answers = subgraph(int8.read_bytes(), {"logits", "embedding", "activation"})
    onnxruntime.InferenceSession(answers, options, providers=["CPUExecutionProvider"])

    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == CONVOLUTIONS
    assert kinds.count("QLinearAdd") == 8  # one a residual block
    assert not {"Conv", "FusedConv", "BatchNormalization", "Relu"} & set(kinds)
    assert kinds.count("Gemm") + kinds.count("MatMul") == 2  # the head: logits and activation


def test_weights_have_a_scale_a_channel_and_seven_bits_and_activations_are_unsigned(int8):
    proto = onnx.load(int8)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    readers = {node.input[0]: node for node in proto.graph.node if node.op_type == "DequantizeLinear"}

    body = [node for node in proto.graph.node if node.op_type == "Conv" and "score_map" not in node.output]
    kernels = [node.input[1] for node in body]
    sources = {node.output[0]: node for node in readers.values()}
    for name in kernels:
        weight, scale, _ = (constants[value] for value in sources[name].input)
        assert weight.dtype == np.int8
        assert scale.shape == (len(weight),)
        assert np.abs(weight).max() <= 64
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[2]].dtype == np.uint8


def test_calibration_images_are_training_images_spread_over_the_list(case, monkeypatch):
    shown = []
    monkeypatch.setattr(quantise, "to_int8", lambda proto, images: shown.extend(images) or proto)

    quantise.reduce(case.proto, case.checkpoint, Reduction("int8", 4))

    train = case.checkpoint.train_images
    np.testing.assert_array_equal(shown, tensors([train[0], train[4], train[7], train[11]]))


def test_a_range_that_was_never_seen_in_calibration_costs_too_much_and_no_file_is_left(case, tmp_path, capsys):
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(tmp_path / "grey.png")
    made = dataclasses.replace(case.checkpoint, train_images=(str(tmp_path / "grey.png"),))

    code = run(made, tmp_path, "--int8")

    assert code == errors.EXIT_BELOW_TARGET
    assert list((tmp_path / "o").iterdir()) == []
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "top-1 accuracy is 0.9500 in fp32 but 0." in printed
    assert "in int8, on 20 validation images; 0.05 may be lost" in printed


@pytest.mark.parametrize(
    ("images", "before", "after", "allowed"),
    [
        (20, 0.95, 0.90, True),  # one image
        (20, 0.95, 0.85, False),
        (1000, 0.950, 0.945, True),  # half a point
        (1000, 0.950, 0.944, False),
        (1000, 0.950, 0.999, True),
        (1000, 0.950, float("nan"), False),
    ],
)
def test_half_a_point_or_one_image_may_be_lost(case, monkeypatch, images, before, after, allowed):
    monkeypatch.setattr(quantise, "to_fp16", lambda proto: proto)
    monkeypatch.setattr(quantise, "_compare", lambda *_: (images, before, after))
    if allowed:
        _, record = quantise.reduce(case.proto, case.checkpoint, Reduction("fp16"))
        assert record == PrecisionRecord("fp16", 0, images, "top1", before, after)
    else:
        with pytest.raises(quantise.AccuracyError, match="see --max-accuracy-loss"):
            quantise.reduce(case.proto, case.checkpoint, Reduction("fp16"))


def test_the_fp16_file_has_half_the_size_float32_ends_and_the_same_answers(case, tmp_path):
    proto, record = quantise.reduce(case.proto, case.checkpoint, Reduction("fp16"))

    assert record == PrecisionRecord("fp16", 0, 20, "top1", before=0.95, after=0.95)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)  # with the description of the float32 graph
    assert path.stat().st_size < 0.52 * case.fp32.path.stat().st_size
    onnx.checker.check_model(proto, full_check=True)
    ends = [*proto.graph.input, *proto.graph.output]
    assert [value.name for value in ends] == ["image", "logits", "embedding", "activation", "score_map"]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    assert TensorProto.FLOAT not in {tensor.data_type for tensor in proto.graph.initializer}
    for found, expected in zip(
        outputs_of(OnnxModel(path, CPU), case.images), outputs_of(case.fp32, case.images), strict=True
    ):
        assert np.abs(found - expected).max() <= 1e-2 * np.abs(expected).max()


def test_several_labels_an_image_are_compared_by_mean_average_precision(case, monkeypatch):
    monkeypatch.setattr(quantise, "to_fp16", lambda proto: proto)
    truth = (np.random.default_rng(0).random(case.logits.shape) < 0.4).astype(float)
    targets = tuple(map(tuple, truth.tolist()))
    made = dataclasses.replace(case.checkpoint, task="multilabel", val_targets=targets)

    _, record = quantise.reduce(case.proto, made, Reduction("fp16"))

    assert record.metric == "map"
    assert record.before == pytest.approx(average_precision_score(truth, case.logits), abs=1e-9)


def test_numbers_are_compared_by_their_explained_variance(case, monkeypatch):
    monkeypatch.setattr(quantise, "to_fp16", lambda proto: proto)
    scaling = ((0.5, 2.0), (-1.0, 0.1), (0.0, 30.0))
    numbers = case.logits + np.random.default_rng(0).normal(0, 0.5, case.logits.shape)
    standardised = (numbers - [mean for mean, _ in scaling]) / [deviation for _, deviation in scaling]
    targets = tuple(map(tuple, standardised.tolist()))
    made = dataclasses.replace(case.checkpoint, task="regression", scaling=scaling, val_targets=targets)

    _, record = quantise.reduce(case.proto, made, Reduction("fp16"))

    assert record.metric == "r2"
    assert record.before == pytest.approx(r2_score(numbers, case.logits), abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "precision", "message"),
    [
        ({"train_images": ("/nowhere/a.png",)}, "int8", "--int8: no training image of the checkpoint is where it was"),
        ({"train_images": ()}, "int8", "--int8: no training image of the checkpoint is where it was"),
        ({"val_images": ("/nowhere/a.png",)}, "fp16", "no labelled validation image of the checkpoint is where it was"),
        ({"val_targets": ()}, "fp16", "no labelled validation image of the checkpoint is where it was"),
    ],
)
def test_without_images_nothing_is_made(case, monkeypatch, fields, precision, message):
    monkeypatch.setattr(quantise, "to_fp16", lambda proto: proto)

    with pytest.raises(errors.DataError, match=message) as caught:
        quantise.reduce(case.proto, dataclasses.replace(case.checkpoint, **fields), Reduction(precision))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8", "--calibration-images", "0"], "--calibration-images 0: at least 1"),
        (["--fp16", "--max-accuracy-loss", "1.5"], "--max-accuracy-loss 1.5: must be in 0 to 1"),
    ],
)
def test_wrong_numbers_are_refused_in_one_line(case, tmp_path, capsys, options, message):
    assert run(case.checkpoint, tmp_path, *options) == errors.EXIT_BAD_INPUT

    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--backbone", "resnet18", "--classes", "3", "--int8"],
        ["--checkpoint", "best.pt", "--int8", "--fp16"],
    ],
)
def test_options_that_exclude_each_other_are_refused(options):
    with pytest.raises(SystemExit, match="2"):
        export.main(["--output", "m.onnx", *options])
