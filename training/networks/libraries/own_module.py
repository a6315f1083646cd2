"""Networks of the user's own, as `FILE.py:FUNCTION`: a function of the number of classes that returns an nn.Module.

The network takes images (N, 3, H, W), any N, and returns logits (N, K) that are the outputs of its last layer, an
nn.Linear or a 1x1 nn.Conv2d that is pooled; in evaluation mode an image gets the same answer every time, whatever is in
its batch; in training mode the last layer gets a gradient; all that it has learned is in its state_dict. The file may
set MEAN and STD (three numbers each, of pixels in [0, 1]) and INPUT_SIZE (rows, columns), which are taken where the
user gives no other. All of the network is in that one file, and in packages that are installed.

A file runs because somebody gives its name on this machine. A checkpoint only tells which file its network came from,
with its text and SHA-256: that alone runs nothing. The file is run again for a checkpoint where it is the same, byte by
byte, and this user has trained with it before (which is noted in `allowed_folder`), or says so by naming it in
$CNN_PERCEPTION_MODULE, which also tells where a file is that was moved. A model file is a graph: it runs no Python.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.model.spec import InputSpec
from training.config import normalisation
from training.networks.fitting import LAST_LAYER
from training.networks.libraries import own_contract, own_errors
from training.networks.libraries.library import USUAL_SIZE, Library, Order, Size, usual_input
from training.run_files import replacing

_MARK = ".py:"
NAMED = "CNN_PERCEPTION_MODULE"
"""The variable of the environment that names a file which may be run for a checkpoint."""


@dataclass(frozen=True)
class Source:
    """Where a checkpoint's network came from.

    Attributes:
        path: The file, absolute, when it was trained.
        function: Its function.
        sha256: Of the file's bytes.
        text: The file.
    """

    path: str
    function: str
    sha256: str
    text: str


def is_own(name: str) -> bool:
    """Returns whether a name is that of a user's file."""
    return (_MARK in name or name.endswith(".py")) and not name.startswith(("layers:", "timm:"))


def absolute(name: str) -> str:
    """Returns the name with the whole path of its file, as other days and folders need it."""
    path, function = _parts(name)
    return f"{path.absolute()}:{function}"


def source_of(name: str) -> Source:
    """Reads the file of a name; runs nothing.

    Raises:
        ConfigError: If it cannot be read.
    """
    path, function = _parts(name)
    data = _read(path)
    return Source(str(path.absolute()), function, hashlib.sha256(data).hexdigest(), data.decode(errors="replace"))


def digest_of(name: str) -> str:
    """Returns the SHA-256 of a name's file, where it is now."""
    path, function = _parts(name)
    named = os.environ.get(NAMED)
    return source_of(name if path.is_file() or not named else f"{named}:{function}").sha256


def fields_of(name: str) -> dict[str, str] | None:
    """Returns the source of a user's own network as a checkpoint keeps it; None of others."""
    return dataclasses.asdict(source_of(name)) if is_own(name) else None


def found_again(source: Mapping[str, str] | None, backbone: str) -> str:
    """Returns the name under which the network of a checkpoint may be built here: see the rule at the top.

    Args:
        source: The fields of `Source` in the checkpoint; None in one that is not as this package writes it.
        backbone: The checkpoint's name of it.

    Raises:
        DataError: If the file is gone or another one now, or nobody has said that it may be run.
    """
    if source is None:
        raise DataError(f"the checkpoint does not say what {backbone} was when it was trained; train again")
    named = None if _has_run(Path(source["path"]), source) else os.environ.get(NAMED)
    path = Path(named or source["path"])
    label = f"the checkpoint's network is {Path(source['path']).name}:{source['function']}"
    how = "its text is in the checkpoint: python -m training.networks CHECKPOINT prints it, and runs nothing"
    if not path.is_file():
        raise DataError(f"{label}, and {path} is not there; name the file in ${NAMED}; {how}")
    digest = hashlib.sha256(_read(path)).hexdigest()
    if digest != source["sha256"]:
        raise DataError(f"{label}, and {path} is another file now; bring back the one it was trained with; {how}")
    if named is None and not _is_allowed(digest, source["function"]):
        raise DataError(
            f"{label}, a program that you have not run here yet: read {path}, and if it may run, give ${NAMED}={path}"
        )
    return f"{path.absolute()}:{source['function']}"


def _has_run(path: Path, source: Mapping[str, str]) -> bool:
    """Whether a file is that of a checkpoint still, and this user has run it; another may be the one that was moved."""
    if not path.is_file() or hashlib.sha256(_read(path)).hexdigest() != source["sha256"]:
        return False
    return _is_allowed(source["sha256"], source["function"])


def allowed_folder() -> Path | None:
    """Returns where it is noted which files this user has trained with; None where there is no home folder."""
    try:
        root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(root) / "cnn_perception" / "own_modules"


def allow(name: str) -> None:
    """Notes that the user has given a file's name on this machine; where that cannot be kept, it is asked again."""
    folder = allowed_folder()
    source = source_of(name)
    if folder is None or _is_allowed(source.sha256, source.function):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / _note(source.sha256, source.function)) as file:
            file.write(f"{source.path}\n".encode())
    except (OSError, DataError):
        return


def _is_allowed(digest: str, function: str) -> bool:
    folder = allowed_folder()
    return folder is not None and (folder / _note(digest, function)).is_file()


def _note(digest: str, function: str) -> str:
    return f"{digest}.{hashlib.sha256(function.encode()).hexdigest()[:16]}"


def _parts(name: str) -> tuple[Path, str]:
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise ConfigError(f"--backbone {name}: is no FILE.py:FUNCTION; name a function of the file")
    return Path(path), function


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--backbone {path}: cannot be read ({error.strerror}); give FILE.py:FUNCTION") from None


def _module(path: Path) -> types.ModuleType:
    """Runs a file.

    Raises:
        ConfigError: If it fails; says where.
    """
    data = _read(path)
    module = types.ModuleType(f"{own_errors.MODULE}{hashlib.sha256(data).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look their annotations up
    try:
        exec(compile(data, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        raise own_errors.failure(path, "running it", error) from None
    return module


def _check(name: str) -> None:
    path, _ = _parts(name)
    if not path.is_file():
        raise ConfigError(f"--backbone {name}: there is no file {path}; give FILE.py:FUNCTION")


def _build(order: Order) -> nn.Module:
    path, function_name = _parts(order.name)
    module = _module(path)
    function = getattr(module, function_name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        names = ", ".join(key for key in own if callable(getattr(module, key))) or "none"
        raise ConfigError(f"{path}: has no function {function_name}; it has {names}")
    network = _called(function, order.classes, path)
    with torch.random.fork_rng(devices=[]), own_errors.blamed("trying it out"):
        last = own_contract.check(network, lambda: _called(function, order.classes, path), order, path)
    setattr(network, LAST_LAYER, last)
    return network


def _called(function: Callable[[int], object], classes: int, path: Path) -> nn.Module:
    try:
        network = function(classes)
    except (Exception, SystemExit) as error:
        raise own_errors.failure(path, f"building a network of {classes} classes", error) from None
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{path}: gives {type(network).__name__}, and no torch.nn.Module; return the network")
    inner = getattr(network, "_orig_mod", network)  # of one that torch.compile was given, which --compile does
    assert isinstance(inner, nn.Module)
    return inner


def _input(name: str) -> InputSpec:
    """Returns the preprocessing that a file says, ImageNet's where it says nothing."""
    path, _ = _parts(name)
    module = _module(path)
    size = getattr(module, "INPUT_SIZE", USUAL_SIZE)
    size = (size, size) if isinstance(size, int) else size
    if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(s, int) and s > 0 for s in size)):
        raise ConfigError(f"{path}: INPUT_SIZE {size!r} is not (rows, columns); mend it")
    usual = usual_input(_pair(size))
    mean, std = _colours(module, "MEAN", usual.mean, path), _colours(module, "STD", usual.std, path)
    normalisation.check(mean, std)
    return InputSpec(usual.height, usual.width, usual.resize_mode, usual.crop_fraction, usual.interpolation, mean, std)


def _pair(size: Any) -> Size:  # noqa: ANN401
    return size[0], size[1]


def _colours(module: types.ModuleType, name: str, usual: normalisation.Colours, path: Path) -> normalisation.Colours:
    numbers = getattr(module, name, usual)
    if not (isinstance(numbers, tuple | list) and len(numbers) == 3):
        raise ConfigError(f"{path}: {name} {numbers!r} is not three numbers, of red, green and blue; mend it")
    return numbers[0], numbers[1], numbers[2]


def _title(name: str) -> str:
    path, function = _parts(name)
    return f"{path.name}:{function}"


OWN = Library(
    owns=is_own,
    check=_check,
    build=_build,
    input_of=_input,
    expects=lambda name, _: _input(name),
    title=_title,
    file_name=lambda name: Path(_parts(name)[0]).stem,
)
