"""Reads MCAP files from the first record to the last; what a file says of itself is compared with what is found.

Indexes, statistics, chunk times, profile and QoS are claims of the writer, and none decides what is read. Only behind a
broken record the chunk index says where the next chunk begins. Of files that were joined one behind the other, as
`cat` does it, each is read as a file of its own: numbers of channels and places begin anew in it.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_perception.bag.decompression import LARGEST_MESSAGE_BYTES, PACKED_ENDINGS, most_unpacked_bytes, unpacked_chunk
from cnn_perception.bag.mcap_records import (
    CHANNEL,
    CHUNK,
    DATA_END,
    FIRST_PRIVATE,
    FOOTER,
    FOOTER_BYTES,
    HEAD,
    HEADER,
    IN_CHUNK,
    IN_DATA,
    IN_SUMMARY,
    LARGEST_RECORD_BYTES,
    LONGEST_NAME_BYTES,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    SCHEMA,
    Chunk,
    Read,
    Summary,
    channel_of,
    checksum_of,
    chunk_at,
    head_at,
    is_known,
    read_summary,
    schema_of,
)
from cnn_perception.bag.message_types import stored_type
from cnn_perception.bag.storage import MOST_LINES, MessageIndex, by_topic
from cnn_perception.commands import for_shell
from cnn_perception.errors import BagError

_MOST_PARTS = 100
"""Of one file; each takes a descriptor."""


class _PartEndError(Exception):
    """Another MCAP file begins behind the footer of the one that was read.

    Attributes:
        place: Where it begins, bytes.
    """

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place


def mcap_files(path: Path, shown: Path) -> list[McapFile]:
    """Opens an MCAP file, or each of those that were joined to one; arguments and errors are those of `McapFile`."""
    files: list[McapFile] = []
    start = 0
    try:
        while len(files) < _MOST_PARTS:
            try:
                return [*files, McapFile(path, shown, start)]
            except _PartEndError as part:  # what the end of the file says is not true of this part
                files.append(McapFile(path, shown, start, part.place))
                start = part.place
    except BaseException:
        for file in files:
            file.close()
        raise
    files[-1].damage.append(f"{shown}: more than {_MOST_PARTS} MCAP files were joined to it; the rest was not read")
    return files


class McapFile:
    """An open MCAP file, a `StorageFile`; places are (number of the compressed chunk or -1, offset, size)."""

    def __init__(self, path: Path, shown: Path, start: int = 0, end: int | None = None) -> None:
        """Scans the file once, as far as possible.

        Args:
            path: The file.
            shown: Where the user has it.
            start: Where in it the MCAP file begins, bytes.
            end: Where the next one begins; None for the end of the file.

        Raises:
            BagError: If it is not an MCAP file.
            _PartEndError: If there is a next one, and `end` is None.
            OSError: If it cannot be read.
        """
        self.path = shown
        self.storage = "mcap"
        self.damage: list[str] = []
        self.index = MessageIndex(place_size=3)
        self._descriptor = os.open(path, os.O_RDONLY)
        self._start = start
        self._size = (os.fstat(self._descriptor).st_size if end is None else end) - start
        self._summary: Summary | None = None
        self._schemas: dict[int, str] = {}
        self._chunk_starts: set[int] = set()
        self._broken_chunks = 0
        self._outside: Counter[int] = Counter()
        self._indexed: Counter[int] = Counter()
        self._oddities: Counter[str] = Counter()
        self._private = 0
        self._packed: list[Chunk] = []
        self._unpacked: tuple[int, memoryview] = (-1, memoryview(b""))
        self._spare_bytes = most_unpacked_bytes(self._size)
        try:
            self._require_beginning()
            self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def message(self, place: npt.NDArray[np.int64]) -> bytes:
        """Returns a serialised message, see `StorageFile`."""
        number, offset, size = place.tolist()
        if size > LARGEST_MESSAGE_BYTES:
            raise BagError(f"it has {size} bytes; at most {LARGEST_MESSAGE_BYTES} are accepted")
        try:
            found = self._read(offset, size) if number < 0 else self._contents(number)[offset : offset + size].tobytes()
        except OSError as error:
            raise BagError(f"it cannot be read: {error.strerror}") from None
        if len(found) != size:
            raise BagError("the file has changed")
        return found

    def _read(self, offset: int, size: int) -> bytes:
        offset, size = self._start + offset, max(0, min(size, self._size - offset))
        found = os.pread(self._descriptor, size, offset)
        while len(found) < size and (more := os.pread(self._descriptor, size - len(found), offset + len(found))):
            found += more
        return found

    def _contents(self, number: int) -> memoryview:
        """Returns the contents of a compressed chunk; those of the last one are kept."""
        if self._unpacked[0] != number:
            chunk = self._packed[number]
            packed = self._read(chunk.offset, chunk.length)
            self._unpacked = (number, memoryview(unpacked_chunk(chunk.compression, packed, chunk.size)))
        return self._unpacked[1]

    def _require_beginning(self) -> None:
        if self._read(0, len(MAGIC)) == MAGIC:
            return
        opcode, length = head_at(self._read, len(MAGIC)) if self._size > len(MAGIC) + HEAD.size else (0, 0)
        if opcode != HEADER or length > LONGEST_NAME_BYTES:
            raise BagError(f"{self.path}: does not begin like an MCAP file")
        self.damage.append(f"{self.path}: its first bytes are not those of an MCAP file; what follows was read")

    def _scan(self) -> None:
        try:
            self._summary = read_summary(self._read, self._size)
            if self._summary is not None:
                self._take_in_summary(self._summary)
            self._scan_records()
            if self._summary is not None:
                self._scan_lost_chunks(self._summary)
        except (BagError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.damage.append(f"{self.path}: {reason}; {self.index.count} messages were read")
        if self._broken_chunks > MOST_LINES:
            self.damage.append(f"{self.path}: {self._broken_chunks - MOST_LINES} other chunks are damaged, too")
        self._compare()

    def _take_in_summary(self, summary: Summary) -> None:
        is_sound = [self._describe(opcode, record) for opcode, record in summary.descriptions]
        if not (summary.is_whole and all(is_sound)):
            self._oddities["summaries are damaged"] += 1

    def _scan_records(self) -> None:
        """Takes in the records from the first one to the footer, as far as they are sound."""
        position = len(MAGIC)
        end = self._size if self._summary is None else self._size - FOOTER_BYTES
        allowed = IN_DATA
        while position + HEAD.size <= self._size and position != end:
            opcode, length = head_at(self._read, position)
            body = position + HEAD.size
            if (opcode, length) == (FOOTER, 20) and self._read(body + length, 2 * len(MAGIC)) == 2 * MAGIC:
                raise _PartEndError(self._start + body + length + len(MAGIC))
            if opcode == DATA_END and allowed is IN_DATA:
                self._check_data(position, self._read(body, 4))
                allowed = IN_SUMMARY
            else:
                self._note_place(opcode, allowed)
            is_whole = length <= self._size - body
            if opcode == CHUNK:
                self._scan_chunk(position, min(length, self._size - body), is_whole)
            elif is_whole:
                is_whole = self._take_in(opcode, body, length)
            if not is_whole:
                break
            position = body + length
        self._say_end(position, is_broken=position != end, has_data_end=allowed is IN_SUMMARY)

    def _say_end(self, position: int, *, is_broken: bool, has_data_end: bool) -> None:
        """Notes that the records ended early."""
        read = f"{self.index.count} messages were read"
        if self._summary is None and has_data_end:
            self.damage.append(f"{self.path}: its end is damaged; {read}")
        elif self._summary is None:
            self.damage.append(f"{self.path}: is truncated; {read}{self._repair()}")
        elif is_broken:
            self.damage.append(f"{self.path}: is damaged at byte {self._start + position}, before which {read}")

    def _repair(self) -> str:
        """Returns how the file is mended, as the end of a line; of one that was packed as a whole its copy would be."""
        if self.path.suffix in PACKED_ENDINGS:
            return ""
        new = self.path.with_name(f"recovered_{self.path.name}")
        return f"; repair with `{for_shell('mcap', 'recover', self.path, '-o', new)}`"

    def _note_place(self, opcode: int, allowed: Collection[int]) -> None:
        if opcode >= FIRST_PRIVATE:
            self._private += 1
        elif opcode not in allowed:
            self._oddities["records are out of place"] += 1

    def _take_in(self, opcode: int, body: int, length: int) -> bool:
        """Takes in a record that lies in no chunk; returns whether it is a sound one."""
        if opcode == MESSAGE:
            if length < MESSAGE_HEAD.size:
                return False
            number, _, time_ns, _ = MESSAGE_HEAD.unpack(self._read(body, MESSAGE_HEAD.size))
            self.index.add(number, time_ns, -1, body + MESSAGE_HEAD.size, length - MESSAGE_HEAD.size)
            self._outside[number] += 1
            return True
        if opcode == MESSAGE_INDEX:
            return self._describe(opcode, self._read(body, min(length, 6)))
        if opcode in {SCHEMA, CHANNEL}:
            return length <= LARGEST_RECORD_BYTES and self._describe(opcode, self._read(body, length))
        return is_known(opcode)

    def _check_data(self, end: int, stored: bytes) -> None:
        """Compares the checksum of the data section, which few writers give, where no chunk has one of its own."""
        expected = int.from_bytes(stored, "little")
        if expected and not self._chunk_starts and checksum_of(self._read, end) != expected:
            self.damage.append(f"{self.path}: its checksum differs; messages may be altered")

    def _describe(self, opcode: int, record: bytes | memoryview) -> bool:
        """Takes in a schema, a channel or a message index; returns whether it is a sound one."""
        try:
            if opcode == SCHEMA:
                number, name = schema_of(record)
                if self._schemas.setdefault(number, name) != name:
                    self._oddities["schemas are described twice and differently"] += 1
            elif opcode == CHANNEL:
                self._describe_channel(*channel_of(record))
            else:
                number, length = struct.unpack_from("<HI", record)
                self._indexed[number] += length // 16
        except (struct.error, ValueError):
            return False
        return True

    def _describe_channel(self, number: int, schema: int, topic: str, encoding: str) -> None:
        if schema and schema not in self._schemas:
            self._oddities["channels name a schema that is not there"] += 1
        if not self.index.describe(number, topic, stored_type(self._schemas.get(schema, ""), encoding)):
            self._oddities["channels are described twice and differently"] += 1

    def _scan_lost_chunks(self, summary: Summary) -> None:
        """Takes in the chunks that only the chunk index leads to."""
        self.index.checks_clock = False  # they are out of order
        end = 0
        for start in sorted(summary.chunks - self._chunk_starts):
            opcode, length = head_at(self._read, start) if start + HEAD.size <= self._size else (0, 0)
            if start < end or opcode != CHUNK or start + HEAD.size + length > self._size:
                self._oddities["entries of its chunk index lead to no chunk"] += 1
                continue
            self._scan_chunk(start, length, is_whole=True)
            end = start + HEAD.size + length

    def _scan_chunk(self, start: int, length: int, is_whole: bool) -> None:
        """Takes in the messages of a chunk, as many as there are before it is broken.

        Raises:
            BagError: If there are too many messages.
        """
        self._chunk_starts.add(start)
        before = self.index.count
        try:
            chunk = chunk_at(self._read, start + HEAD.size, length)
            trouble = self._scan_contents(chunk, is_whole)
        except (struct.error, ValueError):
            trouble = "its head is damaged"
        if not trouble or not is_whole:
            return
        self._broken_chunks += 1
        if self._broken_chunks <= MOST_LINES:
            found = self.index.count - before
            self.damage.append(
                f"{self.path}: the chunk at byte {self._start + start}: {trouble}; {found} of its messages were read"
            )

    def _scan_contents(self, chunk: Chunk, is_whole: bool) -> str:
        """Takes in the messages of a chunk; returns what is wrong with it, or nothing."""
        number, base, size = -1, chunk.offset, chunk.length
        if chunk.compression:
            self._spare_bytes -= chunk.size
            if self._spare_bytes < 0 or chunk.length > LARGEST_MESSAGE_BYTES:
                return "the file or the chunk is too large for a recording"
            try:
                contents = unpacked_chunk(chunk.compression, self._read(chunk.offset, chunk.length), chunk.size)
            except BagError as error:
                return str(error)
            self._packed.append(chunk)
            number, base, size = len(self._packed) - 1, 0, len(contents)
            read = _reader(contents)
        elif chunk.length <= LARGEST_MESSAGE_BYTES:
            read = _reader(self._read(chunk.offset, chunk.length))
        else:
            read = self._piece_of(chunk)
        found = self._scan_messages(read, size, number, base)
        if found is None or size != chunk.size:
            return f"it has {size} bytes of {chunk.size}" if size != chunk.size else "a record in it is broken"
        if chunk.checksum and is_whole and checksum_of(read, size) != chunk.checksum:
            return "its checksum differs, messages may be altered"
        if found[0] >= 0 and is_whole and _differ(chunk.times_ns, found):
            self._oddities["chunks give other times than their messages"] += 1
        return ""

    def _piece_of(self, chunk: Chunk) -> Read:
        return lambda position, size: self._read(chunk.offset + position, min(size, chunk.length - position))

    def _scan_messages(self, read: Read, end: int, number: int, base: int) -> tuple[int, int] | None:
        """Takes in the records of a chunk, as far as they are sound.

        Returns:
            The times of the first and the last message, -1 without any; None if a record is broken.
        """
        first_ns = last_ns = -1
        position = 0
        while position + HEAD.size <= end:
            opcode, length = HEAD.unpack(read(position, HEAD.size))
            position += HEAD.size
            if length > end - position or not is_known(opcode):
                return None
            if opcode == MESSAGE:
                if length < MESSAGE_HEAD.size:
                    return None
                channel, _, time_ns, _ = MESSAGE_HEAD.unpack(read(position, MESSAGE_HEAD.size))
                offset = base + position + MESSAGE_HEAD.size
                self.index.add(channel, time_ns, number, offset, length - MESSAGE_HEAD.size)
                first_ns = time_ns if first_ns < 0 else min(first_ns, time_ns)
                last_ns = max(last_ns, time_ns)
            elif opcode not in IN_CHUNK:
                self._note_place(opcode, IN_CHUNK)
            elif not self._describe(opcode, read(position, length)):
                return None
            position += length
        return (first_ns, last_ns) if position == end else None

    def _compare(self) -> None:
        """Notes where the file contradicts itself."""
        found = {number: channel.count for number, channel in self.index.channels.items()}
        inside = {number: count - self._outside[number] for number, count in found.items()}
        promised = {number: count for number, count in self._indexed.items() if count > inside.get(number, 0)}
        self.damage += by_topic(f"{self.path}: its indexes", self._named(promised), self._named(inside))
        if self._summary is not None:
            self._compare_with_statistics(self._summary, found)
        if self._private and not self._indexed and (self._summary is None or self._summary.total is None):
            self._oddities["records are of no known kind, and nothing says how many messages there are"] = self._private
        for what, count in self._oddities.items():
            self.damage.append(f"{self.path}: contradicts itself ({count} {what}); all messages found were read")

    def _compare_with_statistics(self, summary: Summary, found: dict[int, int]) -> None:
        index = self.index
        self.damage += by_topic(f"{self.path}: its statistics", self._named(summary.counts), self._named(found))
        total = index.count + index.orphans
        if summary.total not in {None, total}:
            self.damage.append(f"{self.path}: its statistics promise {summary.total} messages, {total} were found")
        elif summary.total and not index.orphans and _differ(summary.times_ns, (index.first_ns, index.last_ns)):
            self._oddities["statistics give other times than the messages"] += 1

    def _named(self, counts: dict[int, int]) -> Counter[str]:
        """Returns counts by topic instead of by channel."""
        named: Counter[str] = Counter()
        for number, count in counts.items():
            channel = self.index.channels.get(number)
            named[channel.topic if channel else f"channel {number}"] += count
        return named


def _reader(contents: bytes) -> Read:
    view = memoryview(contents)
    return lambda position, size: view[position : position + size]


def _differ(claimed_ns: tuple[int, int], found_ns: tuple[int, int]) -> bool:
    """Returns whether times are not those found; writers take a first time of 0, of a simulation, for none."""
    return claimed_ns[1] != found_ns[1] or found_ns[0] not in {0, claimed_ns[0]}
