"""The time of a look into a network of the user's images, every section that needs no masks.

    python -m benchmark.look --data DIR --weights FILE --backbone resnet50_v1

A probe is trained on the images first, which is not timed: what is looked into is what `training.train` leaves. The
look is the whole command, from its start to its end, with its default settings: up to 400 images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.probe import train_probe
from benchmark.support.options import option_parser
from benchmark.support.pairs import Target, machine, report
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from demo.processes import child_environment, module_command

_MINUTES = Target(5.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("look", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, or of train/ and val/")
    parser.add_argument("--weights", default="imagenet", help="as for training.train (default: %(default)s)")
    parser.add_argument("--backbone", default="resnet18", help="torchvision or own name (default: %(default)s)")
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        print(f"error: {options.data}: there is no such folder; name one of class folders", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{machine()}; {options.backbone}, {options.data}")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        network = ["--weights", options.weights, "--backbone", options.backbone]
        train_probe(["--mode", "probe", "--data", options.data, *network], run)
        command = module_command("training.look", "--checkpoint", run / "best.pt", "--output", Path(folder) / "look")
        began_s = time.perf_counter()
        subprocess.run(command, env=child_environment(), check=True)
        minutes = (time.perf_counter() - began_s) / 60
    report("a look into the network", "minutes", [minutes], _MINUTES)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
