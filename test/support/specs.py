"""A description that uses every field."""

from __future__ import annotations

from cnn_perception.model.spec import (
    ActivationSpec,
    GallerySpec,
    InputSpec,
    ModelSpec,
    Moments,
    OutputCheck,
    ParityRecord,
    PrecisionRecord,
    ScoreMapSpec,
    TrainingRecord,
    TrainingStatistics,
    UnknownRule,
)

INPUT = InputSpec(224, 320, "crop", 0.875, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


SPEC = ModelSpec(
    version=4,
    task="multiclass",
    architecture="resnet18",
    class_names=("Ameise", "蜂", "no entry"),
    units=(),
    input=INPUT,
    activation=ActivationSpec("cam", 7, 10, (32.0, 32.0), (435, 435), (0.0, 0.0)),
    temperature=1.5,
    thresholds=(),
    unknown=UnknownRule("distance", -0.4, 0.05, 0.97, 40, ((1.0, 0.0), (0.0, 1.0), (0.6, 0.8)), 0.05, 120),
    training=TrainingRecord("finetune", "imagenet", "signs", "ab" * 32, 10, 5, {"val_top1": 1.0}, "0.1.0", "2026"),
    parity=ParityRecord(
        "validation", 5, 1e-6, 1e-3, 1.0, "CPUExecutionProvider", "1.20", (OutputCheck("logits", 1e-6, 1e-3),)
    ),
    precision=PrecisionRecord("int8", 128, 5, "top1", 1.0, 0.8),
    score_map=ScoreMapSpec((32.0, 32.0), (224, 320), (111.5, 159.5)),
    gallery=GallerySpec(("a/1.jpg", "蜂/2.jpg"), 2),
    statistics=TrainingStatistics(5, (0.5, 0.25, 0.25), Moments(0.4, 0.1), Moments(0.3, 0.2)),
)
