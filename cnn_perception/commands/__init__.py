"""What every command has in common: how it is written, how far it is, how it ends, and what it tells a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.commands.ending import Done as Done
    from cnn_perception.commands.ending import bad_input as bad_input
    from cnn_perception.commands.ending import despite_ctrl_c as despite_ctrl_c
    from cnn_perception.commands.ending import end_after as end_after
    from cnn_perception.commands.ending import end_at_once as end_at_once
    from cnn_perception.commands.ending import exit_code as exit_code
    from cnn_perception.commands.ending import there as there
    from cnn_perception.commands.for_scripts import program as program
    from cnn_perception.commands.progress import ProgressBar as ProgressBar
    from cnn_perception.commands.shell_words import for_shell as for_shell

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Done": "ending",
        "ProgressBar": "progress",
        "bad_input": "ending",
        "despite_ctrl_c": "ending",
        "end_after": "ending",
        "end_at_once": "ending",
        "exit_code": "ending",
        "for_shell": "shell_words",
        "program": "for_scripts",
        "there": "ending",
    },
)
