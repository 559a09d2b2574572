"""How does a trace file of any size become text in bounded memory? In blocks, unpacked as they are asked for.

A file that ends too early, or whose packed data are damaged, yields what could be unpacked and says so in `damage`. A file that
unpacks to more than the limit is refused: a few megabytes of gzip can hold a terabyte of nothing.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isal import isal_zlib

from commprof.analysis.runs.workers import advance
from commprof.commbench.errors import BadInput
from commprof.commbench.records.reading import open_regular
from commprof.commbench.units import format_bytes

BLOCK_BYTES = 2**18  # with its events it stays in the processor's cache; one of 1 MiB takes three times the page faults
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's word for: expect a gzip header
_PACKED_BYTES = 2**16
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT_BYTES = 2**24
_DamagedError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # isal's stub takes the class for an instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one trace may hold: bytes of JSON, complete events, distinct names, and bytes without the end of an event."""

    text_bytes: int = 16 * 2**30
    events: int = 50_000_000
    names: int = 1_000_000
    event_bytes: int = 16 * 2**20


def keep_freed_blocks() -> None:
    """Let glibc keep what a block leaves behind for the next one, up to 16 MiB; other C libraries are left as they are.

    It gives freed memory back and takes it anew for every block: 112,000 page faults for 54 MB of text instead of 13,000, and
    a third of the time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 4)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


class TraceText:
    """The JSON text of a file, a block at a time. `num_bytes` were unpacked so far; `damage` is empty or why no more came."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.num_bytes = 0
        self.damage = ""
        self._limit_bytes = limits.text_bytes
        self._blocks = self._read()

    def next_block(self) -> bytes:
        """Return the next block, empty at the end. Raises BadInput for a file that cannot be read or unpacks to too much."""
        try:
            block = next(self._blocks, b"")
        except OSError as error:
            raise BadInput(f"{self.path} cannot be read: {error.strerror or error}") from error
        self.num_bytes += len(block)
        if self.num_bytes > self._limit_bytes:
            raise BadInput(
                f"{self.path} unpacks to more than {format_bytes(self._limit_bytes)} of text; no such trace is read, "
                "profile fewer steps"
            )
        return block

    def _read(self) -> Iterator[bytes]:
        with open_regular(self.path) as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if packed:
                yield from self._unpack(file)
            else:
                while block := file.read(BLOCK_BYTES):
                    advance(len(block))
                    yield block

    def _unpack(self, file: IO[bytes]) -> Iterator[bytes]:
        member = isal_zlib.decompressobj(_GZIP_WINDOW)
        packed = b""
        try:
            while packed := packed or self._more(file):
                if member.eof:  # gzip files may be joined end to end
                    member = isal_zlib.decompressobj(_GZIP_WINDOW)
                yield member.decompress(packed, BLOCK_BYTES)
                packed = member.unused_data if member.eof else member.unconsumed_tail
            if not member.eof:
                self.damage = "its packed data end too early"
        except _DamagedError as error:
            self.damage = f"its packed data are damaged ({error})"

    def _more(self, file: IO[bytes]) -> bytes:
        packed = file.read(_PACKED_BYTES)
        advance(len(packed))
        return packed
