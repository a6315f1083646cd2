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
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnn_perception.errors import ConfigError, DataError, PerceptionError, one_line
from cnn_perception.model.spec import InputSpec
from training.config import normalisation
from training.networks.fitting import LAST_LAYER
from training.networks.libraries.library import USUAL_SIZE, Library, Order, Size, usual_input
from training.run_files import replacing

_MARK = ".py:"
_MODULE = "own_module_"
"""What the name of a user's file as a module begins with."""
NAMED = "CNN_PERCEPTION_MODULE"
"""The variable of the environment that names a file which may be run for a checkpoint."""
_SAME = 1e-4
"""Largest difference between two answers to the same image, as a share of the largest logit."""


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
    module = types.ModuleType(f"{_MODULE}{hashlib.sha256(data).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look their annotations up
    try:
        exec(compile(data, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        raise _failure(path, "running it", error) from None
    return module


@contextmanager
def blamed(doing: str) -> Iterator[None]:
    """Says of an error in the code of a user's network in one line where it is; leaves others as they are.

    Args:
        doing: What is done with the network, for the message.

    Raises:
        ConfigError: In place of it.
    """
    try:
        yield
    except PerceptionError:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        path = _file_in(error)
        if path is None:
            raise
        raise _failure(path, doing, error) from None


def _file_in(error: BaseException) -> Path | None:
    """Returns the user's file that had a part in an error; None without one."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    own = (frame.f_code.co_filename for frame in frames if frame.f_globals.get("__name__", "").startswith(_MODULE))
    found = next(own, None)
    return None if found is None else Path(found)


def _failure(path: Path, doing: str, error: BaseException) -> ConfigError:
    """Returns the error with the last line of the user's file that had a part in it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else (lines or [None])[-1]
    where = f"{path}:{line}" if line else str(path)
    cure = "mend the file"
    if isinstance(error, ModuleNotFoundError):
        cure = "install that package, or put all of the network into this one file"
    return ConfigError(f"{where}: {doing} failed ({type(error).__name__}: {one_line(error, 160)}); {cure}")


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
    with torch.random.fork_rng(devices=[]), blamed("trying it out"):
        last = _check_contract(network, lambda: _called(function, order.classes, path), order, path)
    setattr(network, LAST_LAYER, last)
    return network


def _called(function: Callable[[int], object], classes: int, path: Path) -> nn.Module:
    try:
        network = function(classes)
    except (Exception, SystemExit) as error:
        raise _failure(path, f"building a network of {classes} classes", error) from None
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{path}: gives {type(network).__name__}, and no torch.nn.Module; return the network")
    inner = getattr(network, "_orig_mod", network)  # of one that torch.compile was given, which --compile does
    assert isinstance(inner, nn.Module)
    return inner


def _check_contract(network: nn.Module, again: Callable[[], nn.Module], order: Order, path: Path) -> str:
    """Checks a network against the contract at the top.

    Returns:
        The name of its last layer.

    Raises:
        ConfigError: If it breaks it.
    """
    if next(network.parameters(), None) is None:
        raise ConfigError(f"{path}: the network has no parameters, so nothing can be learned; register its layers")
    if torch.get_default_dtype() != torch.float32:
        torch.set_default_dtype(torch.float32)
        raise ConfigError(f"{path}: sets torch's default dtype, which is that of all here; leave it float32")
    size = order.size or USUAL_SIZE
    images = torch.randn(3, 3, *size)
    was_training = network.training
    if network.eval() is not network:
        raise ConfigError(f"{path}: the network's eval() or train() does not return it; end them with return self")
    odd = [key for key, value in network.state_dict().items() if not isinstance(value, Tensor)]
    if odd:
        raise ConfigError(f"{path}: the network's state_dict holds what is no tensor ({odd[0]!r}); leave it out")
    layers = {layer: key for key, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    called: list[tuple[str, Tensor]] = []
    hooks = [layer.register_forward_hook(lambda one, _, given: called.append((layers[one], given))) for layer in layers]
    logits = _answer(network, images, path)
    for hook in hooks:
        hook.remove()
    _check_outputs(logits, order.classes, path)
    if not called or called[-1][1].shape[1] != order.classes or _ends_otherwise(*called[-1], logits):
        raise ConfigError(
            f"{path}: the network does not end in a linear layer, or a pooled 1x1 convolution, of {order.classes} "
            "outputs; return those of an nn.Linear, without a softmax"
        )
    last = called[-1][0]
    _check_answers(network, again, images, logits, last, path)
    network.train(was_training)
    return last


def _ends_otherwise(name: str, given: Tensor, logits: Tensor) -> bool:
    """Returns whether a linear layer's outputs are not the logits, or what was pooled became scores behind it."""
    if given.ndim == 2:
        return not (given.shape == logits.shape and torch.equal(given, logits))
    is_share = any(bool(((scores.sum(1) - 1).abs() < _SAME).all()) for scores in (logits, logits.exp()))
    cells = given.flatten(2)
    return is_share or any(_is_near(pooled.sigmoid(), logits) for pooled in (cells.mean(2), cells.amax(2)))


def _answer(network: nn.Module, images: Tensor, path: Path) -> Tensor:
    try:
        with torch.no_grad():
            given = network(images)
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        rows, columns = images.shape[2:]
        raise _failure(path, f"an image of {rows}x{columns} pixels", error) from None
    if isinstance(given, Tensor):
        return given
    count = f" of {len(given)}" if isinstance(given, tuple | list | dict) else ""
    raise ConfigError(f"{path}: the network gives a {type(given).__name__}{count}, and no tensor; return the logits")


def _check_outputs(logits: Tensor, classes: int, path: Path) -> None:
    if logits.ndim != 2 or len(logits) != 3:
        raise ConfigError(
            f"{path}: the network gives {tuple(logits.shape)} for 3 images, and not (3, {classes}): it must take "
            "batches, and give a row for each image"
        )
    if logits.shape[1] != classes:
        raise ConfigError(
            f"{path}: the network gives {logits.shape[1]} outputs for {classes} classes; use the number that the "
            "function is given"
        )
    if not torch.isfinite(logits).all():
        raise ConfigError(f"{path}: the network gives what is no finite number for random images; mend it")


def _check_answers(
    network: nn.Module, again: Callable[[], nn.Module], images: Tensor, logits: Tensor, last: str, path: Path
) -> None:
    """Checks that answers follow from the image and the state_dict alone, and that they can be learned."""
    if not _is_near(_answer(network, images, path), logits):
        raise ConfigError(
            f"{path}: the network gives other answers to the same images each time; keep chance for training: if "
            "self.training"
        )
    if not _is_near(_answer(network, images[:1], path), logits[:1]):
        raise ConfigError(
            f"{path}: the network's answer to an image depends on the others in its batch; mend what mixes axis 0"
        )
    other = again()
    other.eval()
    try:
        other.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: a second network does not take the first one's state_dict ({one_line(error, 120)})"
        ) from None
    if not _is_near(_answer(other, images, path), logits):
        raise ConfigError(
            f"{path}: the network has learned what is not in its state_dict; keep it in parameters, buffers and "
            "registered modules (nn.ModuleList instead of a list)"
        )
    _check_learning(other, last, images, path)


def _check_learning(network: nn.Module, last: str, images: Tensor, path: Path) -> None:
    """Checks that a network, of which nothing is wanted any more, can take a step of training."""
    try:
        network.train()
        given = network.requires_grad_(True)(images)
        logits = given[0] if isinstance(given, tuple) else given  # others are auxiliary
        is_finite = bool(torch.isfinite(logits).all())
        if logits.requires_grad:
            logits.square().sum().backward()
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        raise _failure(path, "a step of training", error) from None
    if not is_finite:
        raise ConfigError(f"{path}: the network gives what is no finite number in training; mend it")
    if not any(parameter.grad is not None for parameter in network.get_submodule(last).parameters()):
        raise ConfigError(
            f"{path}: the network's last layer gets no gradient in training; leave out torch.no_grad and detach"
        )


def _is_near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _SAME * other.abs().max())


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
