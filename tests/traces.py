"""Hand-written traces: events as (category, name, start and end in microseconds), laid out as each writer does it."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
MAIN_THREAD = 100
COMPUTE_STREAM = 7
COMM_STREAM = 20


def event(category: str, name: str, start_us: float, end_us: float, **args: object) -> Json:
    """A complete event; GPU categories go to their stream's row."""
    on_gpu = "stream" in args
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": 0 if on_gpu else 1,
        "tid": args["stream"] if on_gpu else MAIN_THREAD,
        "ts": start_us,
        "dur": end_us - start_us,
        "args": args,
    }


def profiler_step(number: int, start_us: float, end_us: float) -> Json:
    return event("user_annotation", f"ProfilerStep#{number}", start_us, end_us)


def kernel(name: str, start_us: float, end_us: float, *, launched_us: float, correlation: int, **args: object) -> list[Json]:
    """A kernel and the launch call of one microsecond that began at `launched_us`."""
    stream = args.pop("stream", COMPUTE_STREAM)
    return [
        event("cuda_runtime", "cudaLaunchKernel", launched_us, launched_us + 1, correlation=correlation),
        event("kernel", name, start_us, end_us, stream=stream, correlation=correlation, **args),
    ]


def all_reduce(
    start_us: float, end_us: float, *, launched_us: float, correlation: int, elements: int = 1_000_000, **args: object
) -> list[Json]:
    """A NCCL all-reduce of float32 elements over ranks 0 and 1, with the metadata of a current Kineto."""
    return kernel(
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        start_us,
        end_us,
        launched_us=launched_us,
        correlation=correlation,
        stream=COMM_STREAM,
        **{
            "Collective name": "allreduce",
            "In msg nelems": elements,
            "Out msg nelems": elements,
            "dtype": "Float",
            "Process Group Name": "0",
            "Process Group Ranks": "[0, 1]",
            "Group size": 2,
            **args,
        },
    )


def gloo_all_reduce(start_us: float, end_us: float, elements: int = 1000, thread: int = 101) -> Json:
    own = event("user_annotation", "gloo:all_reduce", start_us, end_us, **{"Input Dims": [[elements]], "Input type": ["float"]})
    return own | {"tid": thread}


def header(rank: int | None = 0, world_size: int = 2, **fields: object) -> Json:
    own = {} if rank is None else {"distributedInfo": {"backend": "nccl", "rank": rank, "world_size": world_size}}
    return {"schemaVersion": 1, **own, **fields}


def write_trace(path: Path, events: Sequence[Mapping[str, Any]], fields: Mapping[str, Any] | None = None) -> Path:
    """Write events with these fields around them, packed where the name ends in .gz."""
    text = json.dumps({**(header() if fields is None else fields), "traceEvents": list(events)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def kineto_text(events: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> str:
    """Lay a trace out as Kineto does, with fields before and behind the events and indented braces between two of them."""
    bodies = [json.dumps(own)[1:-1] for own in events]
    joined = "\n  },\n  {\n    ".join(bodies)
    before = json.dumps({"schemaVersion": 1})[1:-1]
    return f'\n{{\n  {before},\n  "traceEvents": [\n  {{\n    {joined}\n  }}\n  ],\n  {json.dumps(dict(fields))[1:-1]}\n}}\n'


ASCEND_AGE_US = 1_704_161_511_420_306  # when the timeline of Ascend begins


def _layered(events: list[Json], **processes: int) -> list[Json]:
    """What torch_npu writes: times are text, and processes say what their events are."""
    named = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}} for name, pid in processes.items()
    ]
    return [own | {"ts": f"{ASCEND_AGE_US + own['ts'] // 1000}.{own['ts'] % 1000:03d}"} for own in events] + named


def _span(pid: int, tid: int, name: str, start_ns: int, end_ns: int, **more: Any) -> Json:  # noqa: ANN401
    return {
        "ph": "X",
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": start_ns,
        "dur": (end_ns - start_ns) / 1000,
        "args": {},
    } | more


def _arrow(category: str, name: str, begin: tuple[int, int, int], end: tuple[int, int, int]) -> list[Json]:
    ends = zip("sf", (begin, end), strict=True)
    return [{"ph": ph, "name": name, "cat": category, "pid": pid, "tid": tid, "ts": ts} for ph, (pid, tid, ts) in ends]


def ascend_trace() -> list[Json]:
    """Two steps of 100 us; CANN calls what step 1 asked for 15 us late, when step 2 has begun. Only the product computes."""
    message = {"args": {"count": 1000, "data_type": "BFP16", "rank_size": 2, "connection_id": 7}}
    host = [
        _span(1, 1, f"ProfilerStep#{number}", 100_000 * number, 100_000 * number + 99_000, cat="cpu_op") for number in (1, 2)
    ]
    host += [_span(1, 1, "aten::mm", 190_000, 192_000, cat="cpu_op"), _span(2, 9, "Node@launch", 205_000, 207_000)]
    product = [_span(3, 3, "aclnnMm_MatMulCommon_MatMulV2", 210_500, 240_500)]
    product += _arrow("HostToDevice", "HostToDevice1", (2, 9, 205_000), (3, 3, 210_500))
    product += _arrow("async_npu", "torch_to_npu", (1, 1, 190_000), (3, 3, 210_500))
    sent = [_span(4, 0, "hcom_allReduce__503_0_1", 230_000, 270_000, **message), _span(4, 1, "Notify_Wait", 230_000, 250_000)]
    sent += [_span(3, 5, "MEMCPY_ASYNC", 232_000, 242_000), _span(3, 5, "NOTIFY_WAIT", 242_000, 270_000)]
    sent += _arrow("HostToDevice", "HostToDevice2", (2, 9, 207_000), (4, 0, 230_000))
    beside = [_span(3, 3, "MEMCPY_ASYNC", 280_000, 285_000), _span(5, 0, "Computing", 210_500, 240_500)]
    processes = {"CANN": 2, "Ascend Hardware": 3, "Communication": 4, "Overlap Analysis": 5}
    threads = [(0, "Group hccl_world_group Communication"), (1, "Plane 0")]
    named = [{"ph": "M", "name": "thread_name", "pid": 4, "tid": tid, "args": {"name": name}} for tid, name in threads]
    return _layered(host + product + sent + beside, **processes) + named
