"""The same work by Ray, on the machines of a cluster: Ray starts, places, retries and counts, this only asks for it.

Ray is an optional extra, see requirements/fleet.txt.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from cnn_perception.errors import ConfigError, one_line
from cnn_perception.jobs.outcome import ATTEMPTS, INTERRUPTED, PULSE_S, Outcome
from cnn_perception.jobs.worker import Refused, attempt

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for as long as the work takes."""
_LISTENER_S = 10.0
_WAY_OUT = "see `ray status`; a cluster that wants a token takes it from RAY_AUTH_TOKEN"


class RayCluster(Generic[ItemT, ResultT]):
    """Has work done on items by Ray, a task and a core each.

    Attributes:
        interrupted: Whether Ctrl-C ended it.
    """

    def __init__(
        self,
        work: Callable[[ItemT], ResultT],
        items: Sequence[ItemT],
        address: str,
        jobs: int,
        tell: Callable[[int, str], None] = lambda _index, _text: None,
    ) -> None:
        """Connects to the cluster.

        Args:
            work: As for `Processes`; its module must be importable on every machine.
            items: What can be pickled.
            address: Of the cluster, such as `10.0.0.1:6379`, `ray://10.0.0.1:10001` or `auto`; or `LOCAL`.
            jobs: Cores of a local cluster; of another one its own count.
            tell: As for `Processes`.

        Raises:
            ConfigError: If Ray is not installed, or there is no such cluster.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError("--ray needs Ray; install it with pip install -r requirements/fleet.txt") from None
        _require_listener(address)
        self.interrupted = False
        self._ray: Any = ray
        self._work = work
        self._items = items
        self._tell = tell
        where = _local(jobs) if address == LOCAL else {"address": address}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
            raise ConfigError(f"--ray {address}: cannot be reached ({one_line(error)}); {_WAY_OUT}") from None

    def outcomes(self) -> Iterator[Outcome[ResultT]]:
        """Yields what became of each item, in the order in which they are done, also after Ctrl-C.

        What fails is tried once more by Ray itself, wherever there is room; bad input is not, see `Refused`.
        """
        task = self._ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, retry_exceptions=True)(_attempted)
        waiting = {task.remote(self._work, item): index for index, item in enumerate(self._items)}
        try:
            while waiting:
                ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=PULSE_S)
                if not ready:
                    self._tell(min(waiting.values()), f"and {len(waiting) - 1} others wait or are at work")
                    continue
                yield self._outcome(waiting.pop(ready[0]), ready[0])
        except KeyboardInterrupt:
            self.interrupted = True
            for reference in waiting:
                self._ray.cancel(reference, force=True)
            for index in sorted(waiting.values()):
                yield Outcome(index, None, INTERRUPTED, 0)
        finally:
            self._ray.shutdown()

    def _outcome(self, index: int, reference: object) -> Outcome[ResultT]:
        try:
            result = self._ray.get(reference)
            return Outcome(index, None, result.reason) if isinstance(result, Refused) else Outcome(index, result)
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(index, None, one_line(error.cause or error), ATTEMPTS)
        except self._ray.exceptions.RayError as error:  # its process, or its machine, is gone
            return Outcome(index, None, f"{type(error).__name__}: {one_line(error)}", ATTEMPTS)


def _local(jobs: int) -> dict[str, Any]:
    """Returns how a cluster of this machine is started: its processes import from where this one does."""
    folders = os.pathsep.join(folder for folder in sys.path if folder)
    return {
        "num_cpus": jobs,
        "include_dashboard": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": folders}},
        "_system_config": {"task_oom_retries": ATTEMPTS - 1},  # else what fills the memory is tried for ever
    }


def _require_listener(address: str) -> None:
    """Makes sure that somebody listens at a host and port: Ray itself would try for minutes.

    Raises:
        ConfigError: If nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `local`, `auto`, and what Ray itself judges
    try:
        socket.create_connection((host, int(port)), _LISTENER_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray {address}: cannot be reached ({one_line(error)}); {_WAY_OUT}") from None


class _RefusedError(Exception):
    """Work that is refused, as Ray has it tried again: an exception of a task."""


def _attempted(work: Callable[[Any], Any], item: object) -> object:
    """Does the work in a task of Ray's."""
    result = attempt(work, item)
    if isinstance(result, Refused) and not result.is_final:
        raise _RefusedError(result.reason)
    return result
