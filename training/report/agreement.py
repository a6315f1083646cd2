"""What a run leaves whose images nobody labelled: how often it answers as its teachers do, and no word of accuracy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cnn_perception.commands import for_shell
from cnn_perception.errors import printable
from training.checkpoint import Checkpoint
from training.loop.run import EpochRecord, Run
from training.report import figures, provenance
from training.run_files import write_text
from training.scoring.scores import ScoredLogits

CAUTION = "agreement with the teacher on images that were held out, not accuracy: nobody labelled them"


def write(
    run: Run, best: Checkpoint, history: Sequence[EpochRecord], held_out: ScoredLogits, total_s: float
) -> dict[str, Any]:
    """Writes report.json and the learning curves, and says what was reached.

    Args:
        run: The run.
        best: Its best checkpoint.
        history: What happened, epoch by epoch.
        held_out: Its answers on the images held out, whose labels are the teachers' answers.
        total_s: How long it took, seconds.

    Returns:
        What report.json holds.
    """
    scores = held_out.report()
    ends = scores["intervals"].get(held_out.task.metric)
    report = {
        "agreement": {
            "with": list(run.config.teacher),
            "what": CAUTION,
            "measure": held_out.task.metric,
            "images": scores["images"],
            "value": held_out.metric,
            "interval": ends,
            "loss": held_out.loss,
        },
        "training": best.training,
        "unlabelled": list(run.config.unlabelled),
        "epochs": len(history),
        "seconds": round(total_s, 2),
        "config": run.config.to_dict(),
        "command": provenance.command(run.config),
        "versions": provenance.versions(),
    }
    write_text(run.folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    figures.learning_curves(history, run.folder / "learning_curves.png")
    shown = f"{held_out.metric:.3f}" + (f" (95 %: {ends[0]:.3f}-{ends[1]:.3f})" if ends else "")
    print(f"\n{held_out.task.metric} against the teacher's answers on {scores['images']} images: {shown}\n{CAUTION}")
    print("temperature: fitted to the teacher's answers; there is no unknown rule, which needs labelled images")
    print(f"{total_s:.0f} s; report in {printable(str(run.folder))}\nnext:")
    best_pt = run.folder / "best.pt"
    print(f"  {for_shell('python', '-m', 'training.evaluate', '--checkpoint', best_pt, '--data')} LABELLED")
    print(f"  {for_shell('python', '-m', 'training.export', '--checkpoint', best_pt, '--output')} models/NAME.onnx")
    return report
