"""How networks are trained on the drawn signs: from scratch, since nothing is downloaded; never flipped."""

_FROM_SCRATCH = ("--mode", "scratch")
_OF_SIGNS = ("--resize-mode", "squash", "--augment", "color")

DEMO_SETTINGS = (*_FROM_SCRATCH, "--epochs", "14", "--input-size", "128", *_OF_SIGNS)
"""Of the demo's one training; weights and backbone are the user's choice there."""
LOOP_SETTINGS = (
    *("--backbone", "resnet18", "--weights", "none", *_FROM_SCRATCH, "--epochs", "16"),
    *("--input-size", "96", *_OF_SIGNS, "--baselines", "none"),
)
"""Smaller than the demo's: two trainings in the time of one."""
