"""The bags of a black box, written message by message: a kill leaves every message that was written before it.

Nothing is ever deleted: where the folder is full an incident ends early or is not saved at all, and it is said.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cnn_perception.background.folder_space import made_writable, size_bytes, why_not_written
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
        cut: Bags that lack something.
        lost: Messages that could not be written.
        folder_bytes: Size of the folder; None before it is known.
        problem: Why something was not saved whole, in one line; empty once a bag has been since.
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
        self.cut = 0
        self.lost = 0
        self.folder_bytes: int | None = None
        self.problem = ""
        self._settings = settings
        self._most_bytes = int(settings.max_mb * 1e6)
        self._say = say
        self._warn = warn
        self._types = typestore()
        self._incident: Incident | None = None
        self._failed: Incident | None = None  # the latest that was counted as not whole
        self._writer: BagWriter | None = None

    def prepare(self) -> None:
        """Makes the folder and finds out whether it can be written, before there is anything to save."""
        folder = self._settings.folder
        try:
            self.folder_bytes = made_writable(folder)
        except OSError as error:
            self._note(why_not_written(folder, error))
            return
        if self.folder_bytes >= self._most_bytes:
            self._note(self._full)

    def write(self, incident: Incident, message: Kept) -> None:
        """Appends a message to the bag of its incident; the bag of another one is completed before."""
        try:
            if incident is not self._incident:
                self.close()
                self._begin(incident)
            if self._writer is None:
                self.lost += 1
            else:
                self._append(self._writer, incident, message)
        except OSError as error:
            self._give_up(incident, why_not_written(self._settings.folder, error))

    def close(self, over: Incident | None = None) -> None:
        """Completes the bag, if there is one.

        Args:
            over: The recording that has ended; perhaps nothing of it has come here.
        """
        writer = self._writer
        incident = self._incident
        self._writer = None
        self._incident = None
        if over is not None and over is not incident:
            self._fail_for_lost(over)
        if writer is None or incident is None:
            return
        self._fail_for_lost(incident)
        try:
            writer.set_custom_data("causes", incident.causes)
            if incident.problem:
                writer.set_custom_data("problem", incident.problem)
            writer.close()
        except OSError as error:
            self._fail(incident, why_not_written(self._settings.folder, error))
            return
        if incident.problem and incident is not self._failed:  # a defect of the black box
            self._count(incident, incident.problem)
        elif writer.count and not incident.problem:
            self.saved += 1
            self.latest = writer.path
            self.problem = ""
            self._say(f"saved {writer.path}: {writer.count} messages; {incident.causes}")

    def _begin(self, incident: Incident) -> None:
        self._incident = incident
        self.folder_bytes = size_bytes(self._settings.folder)
        incident.path = free_path(self._settings.folder, incident.path.name)
        self._writer = BagWriter(incident.path, self._types, {})

    @property
    def _full(self) -> str:
        return f"{self._settings.folder}: {self._settings.max_mb:g} MB are full; move bags elsewhere"

    def _append(self, writer: BagWriter, incident: Incident, message: Kept) -> None:
        assert self.folder_bytes is not None
        cost = writer.cost(message.topic, message.payload)
        if self.folder_bytes + cost > self._most_bytes:
            self.lost += 1
            self._fail(incident, self._full)
            self.close()
            self._incident = incident  # what is still to come of it is lost
            return
        writer.write(message.topic, message.type, message.log_time_ns, message.payload)
        writer.flush()
        self.folder_bytes += cost
        incident.note_written()

    def _give_up(self, incident: Incident, problem: str) -> None:
        """Leaves the bag as it is; what is still to come of the incident is lost."""
        self.lost += 1
        writer = self._writer
        self._writer = None
        if writer is not None:
            with suppress(OSError):  # the first reason is the one that is told
                writer.abandon()
        self._fail(incident, problem)

    def _fail(self, incident: Incident, problem: str) -> None:
        """Notes why an incident is not saved whole, and what there is of it; the first reason counts."""
        if not incident.problem:
            incident.fail(self._count(incident, problem))  # who waits for the incident finds it there

    def _fail_for_lost(self, incident: Incident) -> None:
        if incident.lost:
            self._fail(incident, f"{self._settings.folder}: {incident.missing}")

    def _count(self, incident: Incident, problem: str) -> str:
        """Notes why an incident is not saved whole; returns it with what there is of it."""
        self._failed = incident
        self.cut += bool(incident.written)
        rest = f"no more than {incident.written} messages are saved" if incident.written else "is not saved"
        said = f"{problem} ({incident.path.name}: {rest})"
        self._note(said)
        return said

    def _note(self, problem: str) -> None:
        self.problem = problem
        self._warn(problem)
