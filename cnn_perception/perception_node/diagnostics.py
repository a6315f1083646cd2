"""The node's health as diagnostic_msgs: a status for each camera, one for the model, with stable names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from cnn_perception.background.recorder import Recorder
from cnn_perception.background.shadow import Shadow
from cnn_perception.background.viewers import ViewersReport
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.stream.drift import DriftReport
from cnn_perception.stream.frame_counters import Snapshot
from cnn_perception.tasks.registry import task_of


@dataclass(frozen=True)
class CameraStatus:
    """What is known of one camera at the moment of a diagnosis.

    Attributes:
        camera: Its name; empty for the only one.
        topic: The image topic; empty while the node was never active.
        active: Whether the node is subscribed.
        enabled: Whether frames are answered.
        silence_s: Seconds since the latest frame.
        timeout_s: Seconds of silence that are an error.
        snapshot: Counts, rates and percentiles.
        drift: Whether the camera shows what the model was trained on; None while the node is not active.
        stalled: Which stage of the node is at one frame for too long; empty while the frames go on.
    """

    camera: str
    topic: str
    active: bool
    enabled: bool
    silence_s: float
    timeout_s: float
    snapshot: Snapshot
    drift: DriftReport | None
    stalled: str = ""


def to_array(
    stamp: Any,  # noqa: ANN401 messages are untyped
    node: str,
    cameras: Sequence[CameraStatus],
    model: ActiveModel | None,
    overdue: str,
    load_under_way: str = "",
    viewers: ViewersReport | None = None,
) -> DiagnosticArray:
    """Returns all statuses.

    Args:
        stamp: builtin_interfaces/Time of the node's clock.
        node: Fully qualified name of the node.
        cameras: One a camera.
        model: The model in use; None while there is none.
        overdue: Which callbacks take too long; empty if none does.
        load_under_way: Which model is being loaded, and for how long; empty if none is.
        viewers: What viewers got.
    """
    statuses = [*(_camera_status(node, one) for one in cameras), _model_status(node, model, load_under_way)]
    statuses.append(_callbacks_status(node, overdue))
    if viewers is not None:
        statuses.append(_viewers_status(node, viewers))
    if model is not None and model.shadow is not None:
        statuses.append(_shadow_status(node, model.shadow))
    if model is not None and model.recorder is not None:
        statuses.append(_recorder_status(node, model.recorder))
    array = DiagnosticArray(status=statuses)
    array.header.stamp = stamp
    return array


def _camera_status(node: str, camera: CameraStatus) -> DiagnosticStatus:
    counts = camera.snapshot
    if not camera.active:
        level, text = DiagnosticStatus.STALE, "the node is not active"
    elif camera.stalled:
        level, text = DiagnosticStatus.ERROR, f"no frame is answered: {camera.stalled}"
    elif camera.silence_s > camera.timeout_s:
        level, text = DiagnosticStatus.ERROR, f"no image for {camera.silence_s:.1f} s"
    elif counts.recently_broken:
        level, text = DiagnosticStatus.ERROR, f"{counts.recently_broken} frames met a defect of this node; see its log"
    elif counts.recently_refused:
        level, text = DiagnosticStatus.WARN, f"{counts.recently_refused} unusable frames in the last second"
    elif counts.recently_odd:
        kinds = ", ".join(sorted(counts.oddities))
        level, text = DiagnosticStatus.WARN, f"{counts.recently_odd} odd frames in the last second ({kinds})"
    elif camera.drift is not None and camera.drift.warnings:
        level, text = DiagnosticStatus.WARN, "; ".join(camera.drift.warnings)
    elif not camera.enabled:
        level, text = DiagnosticStatus.OK, "disabled by ~/set_enabled"
    elif counts.input_rate_hz > 0 and counts.output_rate_hz == 0 and not counts.answered:
        level, text = DiagnosticStatus.OK, "idle: nobody subscribes to a result"
    else:
        level, text = DiagnosticStatus.OK, f"{counts.output_rate_hz:.1f} frames/s answered"
    values = {
        "topic": camera.topic,
        "input rate (Hz)": f"{counts.input_rate_hz:.2f}",
        "output rate (Hz)": f"{counts.output_rate_hz:.2f}",
        "received": str(counts.received),
        "answered": str(counts.answered),
        "unknown": str(counts.unknown),
    }
    values |= {f"dropped: {reason}": str(count) for reason, count in sorted(counts.dropped.items())}
    values |= {f"odd: {kind}": str(count) for kind, count in sorted(counts.oddities.items())}
    values |= {f"{stage} p50/p95 (ms)": f"{p50:.2f} / {p95:.2f}" for stage, (p50, p95) in counts.percentiles_ms.items()}
    values |= camera.drift.values() if camera.drift is not None else {}
    return _status(level, f"{node}: camera {camera.camera}".rstrip(), text, node, values)


def _shadow_status(node: str, shadow: Shadow) -> DiagnosticStatus:
    report = shadow.report()
    level = DiagnosticStatus.ERROR if report.problem else DiagnosticStatus.OK
    text = report.problem or f"{report.rate:.1%} of {report.compared} frames answered otherwise"
    return _status(level, f"{node}: shadow", text, node, report.values() | {"shadow: note": shadow.note})


def _recorder_status(node: str, recorder: Recorder) -> DiagnosticStatus:
    report = recorder.report()
    level = DiagnosticStatus.WARN if report.problem else DiagnosticStatus.OK
    if report.is_broken:
        level = DiagnosticStatus.ERROR
    return _status(level, f"{node}: recorder", report.problem or f"{report.recorded} kept", node, report.values())


def _viewers_status(node: str, report: ViewersReport) -> DiagnosticStatus:
    level = DiagnosticStatus.WARN if report.problem else DiagnosticStatus.OK
    return _status(level, f"{node}: viewers", report.text, node, report.values())


def _callbacks_status(node: str, overdue: str) -> DiagnosticStatus:
    if not overdue:
        return _status(DiagnosticStatus.OK, f"{node}: callbacks", "services and parameters are answered", node, {})
    text = f"others may have to wait: {overdue}"  # which a model that loads is entitled to
    return _status(DiagnosticStatus.WARN, f"{node}: callbacks", text, node, {})


def _model_status(node: str, active: ActiveModel | None, load_under_way: str) -> DiagnosticStatus:
    name = f"{node}: model"
    if active is None:
        level = DiagnosticStatus.WARN if load_under_way else DiagnosticStatus.STALE
        return _status(level, name, load_under_way or "no model is loaded", node, {})
    model = active.pipeline.model
    level = DiagnosticStatus.WARN if model.fallback else DiagnosticStatus.OK
    text = f"running on {model.provider}" + (f": {model.fallback}" if model.fallback else "")
    text += f"; {load_under_way}" if load_under_way else ""
    spec = model.spec
    values = {
        "file": str(model.path),
        "sha256": model.sha256,
        "architecture": spec.architecture,
        "task": spec.task,
        **task_of(spec.task).model_values(spec),
        "unknown rule": spec.unknown.method if spec.unknown else "none",
        "provider": model.provider,
        "placement": model.placement,
    }
    return _status(level, name, text, node, values)


def _status(level: bytes, name: str, text: str, hardware_id: str, values: dict[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=text, hardware_id=hardware_id, values=pairs)
