"""`make demo`: from a folder of labelled images to classes and activation maps on ROS topics, in one command.

Without --data it draws its own images: a data set of road signs and a camera drive past them. Every step is one of the
commands that docs/ explains; each is printed before it runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnn_perception.commands import exit_code, for_shell
from cnn_perception.errors import EXIT_INTERRUPTED, EXIT_OK, DataError, PerceptionError
from cnn_perception.files import require_unused
from cnn_perception.ros import transport
from demo.draw import draw_dataset, draw_drive, draw_masks
from demo.processes import child_environment, module_command, node_command
from demo.training_settings import DEMO_SETTINGS

RATE_HZ = 10.0
DRIVE_S = 30.0
_MARK = "demo.json"
_IMAGES_OF_A_CLASS = 20
"""Of the user's validation images that the camera shows, in the mode with --data."""
_LOOKED_AT = 120
"""Images over which units are measured: a minute's worth."""


class StepError(PerceptionError):
    """A step of the demo ended with an exit code other than 0; it has said why."""


@dataclass(frozen=True)
class LabelledDrive:
    """The images that the camera node publishes, and their labels.

    Attributes:
        frames: Folder of images, in the order of their names.
        count: How many.
        labels: CSV file of the class at each time, from the first image on.
    """

    frames: Path
    count: int
    labels: Path


def run(data: Path | None, weights: str, backbone: str, output: Path) -> None:
    """Draws or takes images, trains, exports, runs the nodes on a camera drive, and scores the recording.

    Args:
        data: The user's image folder; None draws one.
        weights: What training starts from, see `training.train --weights`.
        backbone: Name of the network.
        output: Folder for everything that is made.

    Raises:
        PerceptionError: If there is no such folder, or a step fails.
    """
    if data is not None and not data.is_dir():
        raise DataError(f"{data}: no such folder; give the folder that holds your classes' folders")
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    _require_own(output)
    model = output / "model.onnx"
    bag = output / "bag"
    masks: Path | None = None
    if data is None:
        print_heading("1/6  drawing a data set of road signs and a camera drive past them")
        data = draw_dataset(output / "dataset", train=120, val=30, seed=0)
        masks = draw_masks(output / "masks", train=120, val=30, seed=0)
        drive = _drawn_drive(output / "drive")
    else:
        print_heading(f"1/6  your images: {data}")
        drive = None
    print_heading(f"2/6  training {backbone}")
    training = output / "run"
    shutil.rmtree(training, ignore_errors=True)
    settings = ["--weights", weights, *_training_mode(weights, is_drawn=drive is not None), "--output", training]
    step("training.train", "--data", data, "--backbone", backbone, *settings)
    print_heading("3/6  exporting it as ONNX, verified against torch")
    step("training.export", "--checkpoint", training / "best.pt", "--output", model)
    drive = drive or _drive_of_validation_images(training / "split.csv", data, output / "camera")
    print_heading("4/6  live: camera_node -> perception_node -> recorder, three processes over DDS")
    live = run_live(drive, model, bag)
    print_heading("5/6  scoring the recorded bag")
    _score(bag, model, drive, output / "evaluation")
    print_heading("6/6  looking into the network: what it sees, and why")
    _look(training / "best.pt", masks, output / "look")
    _print_summary(output, live, time.perf_counter() - started)


def _score(bag: Path, model: Path, drive: LabelledDrive, output: Path) -> None:
    labels = ["--labels", drive.labels, "--labels-start", "image"]
    topic = ["--topic", "/image_raw"]
    step("cnn_perception.evaluation", "--bag", bag, *topic, "--model", model, *labels, "--output", output)


def _look(checkpoint: Path, masks: Path | None, output: Path) -> None:
    shutil.rmtree(output, ignore_errors=True)
    compared = ["--masks", masks] if masks else []
    few = ["--most-images", _LOOKED_AT, "--units", 3, "--visualised-units", 4]
    step("training.look", "--checkpoint", checkpoint, *compared, *few, "--output", output)


def _require_own(output: Path) -> None:
    """Refuses a folder whose parts the demo would remove though another program or a human made them."""
    mark = output / _MARK
    parts = (output / name for name in ("run", "model.onnx", "camera", "bag", "bag.json", "evaluation", "look"))
    require_unused(parts, mark, ("demo",))
    mark.write_text('{"demo": "what lies here is replaced by the next demo"}\n')


def _training_mode(weights: str, is_drawn: bool) -> list[str]:
    """Returns the arguments of training.train by which the demo takes minutes."""
    if weights != "none":
        # Fine-tuning wants a GPU; on a CPU a linear probe on frozen features takes a minute or two.
        return ["--mode", "finetune" if torch.cuda.is_available() else "probe"]
    return list(DEMO_SETTINGS) if is_drawn else ["--mode", "scratch"]


def print_heading(text: str) -> None:
    """Prints what comes next."""
    print(f"\n== {text}", flush=True)


def environment() -> dict[str, str]:
    """Returns the environment of the programs that are run."""
    return child_environment() | transport.environment()


def step(module: str, *arguments: object) -> None:
    """Prints a command and runs it."""
    print(f"$ {for_shell('python', '-m', module, *arguments)}", flush=True)
    code = subprocess.run(module_command(module, *arguments), env=environment()).returncode
    if code in (EXIT_INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if code != EXIT_OK:
        raise StepError(f"`python -m {module}` ended with exit code {code}; its message is above")


def _drawn_drive(folder: Path) -> LabelledDrive:
    drawn = draw_drive(folder, seconds=DRIVE_S, rate_hz=RATE_HZ, seed=1)
    return LabelledDrive(drawn / "frames", len(list((drawn / "frames").iterdir())), drawn / "labels.csv")


def _drive_of_validation_images(split: Path, data: Path, folder: Path) -> LabelledDrive:
    """Returns a drive that shows the validation images, class after class."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "frames").mkdir(parents=True)
    images: dict[str, list[Path]] = defaultdict(list)
    with split.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["part"] == "val" and len(images[row["class"]]) < _IMAGES_OF_A_CLASS:
                images[row["class"]].append(data / row["path"])
    count = 0
    rows = []
    for name, paths in images.items():
        for path in paths:
            (folder / "frames" / f"{count:06}{path.suffix}").symlink_to(path.resolve())
            count += 1
        # Labels change half-way between two frames, so that a jitter of the stamps moves no frame to another class.
        start_s = max(count - len(paths) - 0.5, 0.0) / RATE_HZ
        end_s = (count - 0.5) / RATE_HZ
        rows.append((start_s, end_s, name))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("start_s", "end_s", "class"), *rows])
    return LabelledDrive(folder / "frames", count, folder / "labels.csv")


def run_live(drive: LabelledDrive, model: Path, bag: Path, swap_to: Path | None = None) -> dict[str, Any]:
    """Runs camera, node and recorder side by side until the camera ends.

    Args:
        drive: What the camera sees.
        model: Of the node.
        bag: Where images and answers are recorded.
        swap_to: The model that the running node is given before the camera starts; in the folder of `model`.

    Returns:
        The recorder's summary.

    Raises:
        StepError: If one of the processes fails; it has said why.
    """
    shutil.rmtree(bag, ignore_errors=True)
    commands = {
        "recorder": module_command("demo.record", "--bag", bag, "--frames", drive.count),
        "node": node_command("perception_node", {"model": model, "image_timeout_s": 30.0}),
        "camera": node_command("camera_node", {"source": drive.frames, "rate_hz": RATE_HZ, "wait_for_subscribers": 2}),
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            if name == "camera" and swap_to is not None:
                step("demo.swap", "--model", swap_to)
            print(f"$ {for_shell('python', *command[1:])}", flush=True)
            processes[name] = subprocess.Popen(command, env=environment())
        while (code := processes["recorder"].poll()) is None:
            for name in ("node", "camera"):
                if processes[name].poll() not in (None, EXIT_OK):
                    raise StepError(f"the {name} ended with exit code {processes[name].returncode}; see above")
            try:
                processes["recorder"].wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
        if code != EXIT_OK:
            raise StepError(f"the recorder ended with exit code {code}; see above")
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(timeout=10)
    found: dict[str, Any] = json.loads(bag.with_suffix(".json").read_text())
    return found


def _print_summary(output: Path, live: dict[str, Any], seconds: float) -> None:
    trained = json.loads((output / "run" / "report.json").read_text())
    scored = json.loads((output / "evaluation" / "report.json").read_text())
    rows = [
        ("validation images", f"{trained['val']['top1']:.1%} top-1 of {trained['val']['images']}"),
        ("live over DDS", f"{live['answers']} of {live['images']} images answered, on {live.get('provider', '?')}"),
    ]
    if "inference" in live:
        own = float(live["callback_to_publish"]) - float(live["inference"])
        rows.append(("a frame in the node", f"{live['inference']} ms inference + {own:.2f} ms around it (p50)"))
    rows += [
        ("recorded bag", f"{scored['top1']:.1%} top-1 of {scored['frames']['scored']} labelled images"),
        ("all of it took", f"{seconds / 60:.1f} minutes"),
        ("report", str(output / "evaluation" / "report.html")),
        ("what it sees", str(output / "look" / "look.html")),
        ("overlay video", str(output / "evaluation" / "overlay.webm")),
        ("model", str(output / "model.onnx")),
        ("training run", str(output / "run")),
        ("bag", str(output / "bag")),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<22}{value}")
    *on_camera, training = next_commands(output / "model.onnx")
    print("\nnext, a terminal each: your camera, this model on it, the page that shows it")
    for command in on_camera:
        print(f"  {command}")
    print(f"a model of your own photographs, a folder for each class:\n  {training}")


def next_commands(model: Path) -> list[str]:
    """Returns what a newcomer does next: their camera, the demo's model on it, the page that shows it, and training."""
    train = ("training.train", "--data", "PHOTOS", "--backbone", "resnet18", "--weights", "imagenet", "--mode", "probe")
    return [
        for_shell(".venv/bin/camera_node", "--ros-args", "-p", "source:=0"),
        for_shell(".venv/bin/perception_node", "--ros-args", "-p", f"model:={model}"),
        ".venv/bin/dashboard_node",
        for_shell(".venv/bin/python", "-m", *train, "--output", "runs/mine"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__)
    parser.add_argument("--data", type=Path, help="your image folder, see training.train --data (default: draws one)")
    parser.add_argument("--weights", default="none", help="as training.train --weights (default: %(default)s)")
    parser.add_argument("--backbone", default="resnet18", help="torchvision name (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: run(options.data, options.weights, options.backbone, options.output), "interrupted")


if __name__ == "__main__":
    sys.exit(main())
