"""The figures of the textbook, by the commands that its pages show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cnn_perception.errors import EXIT_OK
from demo.pictures.sources import Sources
from demo.processes import child_environment
from demo.run import StepError

_ROOT = Path(__file__).resolve().parents[2]


def make(sources: Sources, path: Path) -> str:
    """Runs the commands of the pages that leave figures.

    A figure that needs an idle machine is left out: it belongs with the numbers of its page, which
    `python test/support/textbook.py --slow PAGE` renews with it.

    Args:
        sources: Of which none is used.
        path: The folder of the figures.

    Returns:
        Which figures.

    Raises:
        StepError: If a command fails; it has said why.
    """
    del sources
    command = [sys.executable, str(_ROOT / "test" / "support" / "textbook.py"), "--figures", str(path.resolve())]
    pages = sorted(map(str, (_ROOT / "docs" / "textbook").glob("*.md")))
    done = subprocess.run([*command, *pages], cwd=_ROOT, env=child_environment(), stdout=subprocess.PIPE, text=True)
    if done.returncode != EXIT_OK:
        raise StepError(f"test/support/textbook.py ended with exit code {done.returncode}; see above")
    return ", ".join(done.stdout.split())
