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
