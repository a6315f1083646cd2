"""The bags of a black box, written message by message: a kill leaves every message that was written before it.

Nothing is ever deleted: where the folder is full an incident ends early or is not saved at all, and it is said.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from cnn_perception.background.folder_space import size_bytes, why_not_written
from cnn_perception.bag.message_types import typestore
from cnn_perception.bag.writer import BagWriter, free_path
from cnn_perception.black_box.incident import Incident
from cnn_perception.black_box.ring import Kept
from cnn_perception.black_box.settings import BlackBoxSettings


class IncidentBags:
    """Writes the bag of one incident after the other; used by one thread, its figures are read by others.

    Attributes:
        saved: Bags that are whole.
        latest: The newest of them; None before the first.
        lost: Messages that could not be written.
        folder_bytes: Size of the folder; None before the first incident.
        problem: Why the last incident was not saved whole, in one line; empty where it was.
    """

    def __init__(self, settings: BlackBoxSettings, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Writes nothing before the first message.

        Args:
            settings: Where, and how much.
            say: Is told of each bag that is whole.
            warn: Is told of each incident that is not saved whole, and why.
        """
        self.saved = 0
        self.latest: Path | None = None
        self.lost = 0
        self.folder_bytes: int | None = None
        self.problem = ""
        self._settings = settings
        self._most_bytes = int(settings.max_mb * 1e6)
        self._say = say
        self._warn = warn
        self._types = typestore()
        self._incident: Incident | None = None
        self._writer: BagWriter | None = None

    def prepare(self) -> None:
        """Makes the folder and finds out whether it can be written, before there is anything to save."""
        try:
            self._settings.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._settings.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            self._note(why_not_written(self._settings.folder, error))

    def write(self, incident: Incident, message: Kept) -> None:
        """Appends a message to the bag of its incident; the bag of another one is completed before."""
        try:
            if incident is not self._incident:
                self.close()
                self._begin(incident)
            if self._writer is None:
                self.lost += 1
            else:
                self._append(self._writer, message)
        except OSError as error:
            self._give_up(why_not_written(self._settings.folder, error))

    def close(self) -> None:
        """Completes the bag, if there is one."""
        writer = self._writer
        incident = self._incident
        self._writer = None
        self._incident = None
        if writer is None or incident is None:
            return
        try:
            writer.set_custom_data("causes", incident.causes)
            writer.close()
        except OSError as error:
            self._note(why_not_written(self._settings.folder, error))
            return
        if writer.count:
            self.saved += 1
            self.latest = writer.path
            self._say(f"saved {writer.path}: {writer.count} messages; {incident.causes}")

    def _begin(self, incident: Incident) -> None:
        self._incident = incident
        self.problem = ""
        self.folder_bytes = size_bytes(self._settings.folder)
        self._writer = BagWriter(free_path(self._settings.folder, incident.name), self._types, {})

    def _append(self, writer: BagWriter, message: Kept) -> None:
        assert self.folder_bytes is not None
        cost = writer.cost(message.topic, message.payload)
        if self.folder_bytes + cost > self._most_bytes:
            incident = self._incident
            self.lost += 1
            self.close()
            self._incident = incident  # what is still to come of it is lost
            self._note(f"{self._settings.folder}: {self._settings.max_mb:g} MB are full; move bags elsewhere")
            return
        writer.write(message.topic, message.type, message.log_time_ns, message.payload)
        writer.flush()
        self.folder_bytes += cost

    def _give_up(self, problem: str) -> None:
        """Leaves the bag as it is; what is still to come of the incident is lost."""
        self.lost += 1
        if self._writer is not None:
            self._writer.abandon()
        self._writer = None
        self._note(problem)

    def _note(self, problem: str) -> None:
        self.problem = problem
        self._warn(problem)
