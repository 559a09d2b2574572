"""Runs whose every number is known, for reports, and a page read back."""

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from commprof.analysis.report.sections.build import write_report
from commprof.analysis.runs.interval import Interval
from commprof.analysis.step.results import (
    BreakEven,
    Change,
    Overhead,
    Prediction,
    PredictionSet,
    ScheduledBucket,
    ScheduledStep,
)
from commprof.commbench.records.rundir import RecordWriter, create_run, read_info, write_document
from commprof.commbench.records.training import BucketTiming, GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import SCHEMA_VERSION, CollectiveMeasurement, RankInfo, RunInfo, SoftwareInfo, Workload

WORKLOAD = Workload(
    experiment="toy",
    num_parameters=1_000_000,
    gradient_bytes=4_000_000,
    samples_per_rank=32,
    sequence_length=128,
    first_bucket_bytes=2**20,
    bucket_cap_bytes=25 * 2**20,
    synchronised=True,
)
FORMULAS = {"schedule": "played bucket by bucket", "ring": "T_1 + ring", "amdahl": "T_1 (1 + e (N-1))", "linear": "T_1 only"}
STEPS_S = {  # predicted; the runs below take 0.1, 0.11 and 0.125 s on 1, 2 and 4 ranks
    2: {"schedule": 0.121, "ring": 0.1045, "amdahl": 0.102, "linear": 0.1},
    4: {"schedule": 0.1125, "ring": 0.105, "amdahl": 0.106, "linear": 0.1},
}
BEFORE, DURING, AFTER = "2026-01-01T10:00:00.000+00:00", "2026-01-01T11:00:00.000+00:00", "2026-01-01T12:00:00.000+00:00"


def info(kind: str, world_size: int, **changes: object) -> RunInfo:
    made = RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=f"{kind}-n{world_size}",
        kind=kind,  # type: ignore[arg-type]
        status="completed",
        started_at=BEFORE,
        ended_at=AFTER,
        command=("commprof", kind),
        backend="gloo",
        world_size=world_size,
        num_nodes=1,
        launcher="torchrun",
        cores_per_node=4,
        threads_per_rank=1,
        ranks=tuple(RankInfo(rank=r, local_rank=r, hostname="node-a", device_name="EPYC") for r in range(world_size)),
        software=SoftwareInfo(python="3.11.9", torch="2.9.0"),
        environ={"OMP_NUM_THREADS": "1"},
        git_commit="abc123",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def add_train(path: Path, world_size: int, step_s: float, *, buckets: bool = False, count: int = 8, **changes: object) -> Path:
    """Write a training run of `count` equal steps after one warm-up; 30 % forward, 55 % backward, 5 % other."""
    defaults: dict[str, object] = {"workload": WORKLOAD, "run_id": path.name}
    create_run(path, info("train", world_size, **(defaults | changes)))
    for rank in range(world_size):
        with RecordWriter(path / f"steps.rank{rank:05d}.jsonl") as writer:
            for step in range(count + 1):
                writer.append(
                    StepMeasurement(
                        step=step,
                        data_s=0.02 * step_s,
                        forward_s=0.3 * step_s,
                        backward_s=0.55 * step_s,
                        optimizer_s=0.08 * step_s,
                        step_s=step_s if step else 10.0,
                        num_samples=32,
                        loss=1.0,
                        warmup=step == 0,
                        profiled=False,
                        synchronised=True,
                    )
                )
    write_document(path / "gradients.json", gradients(0.55 * step_s, buckets=buckets))
    return path


def gradients(backward_s: float, *, buckets: bool) -> GradientTimeline:
    names, sizes = ("head.weight", "embedding.weight"), (2**20, 2_951_424)
    return GradientTimeline(
        rank=0,
        num_steps=8,
        backward_s=backward_s,
        parameters=tuple(
            ParameterTiming(name=name, num_bytes=size, ready_s=backward_s * part)
            for name, size, part in zip(names, sizes, (0.4, 0.98), strict=True)
        ),
        buckets=tuple(
            BucketTiming(index=i, num_bytes=size, ready_s=0.02 * (i + 1), launched_s=0.021 * (i + 1), done_s=0.025 * (i + 1))
            for i, size in enumerate(sizes if buckets else ())
        ),
    )


def add_bench(path: Path, world_size: int, sizes: Sequence[int] = (1024, 65536, 2**20, 2**23), **changes: object) -> Path:
    """Write a bench whose fastest rank takes 1 ms + S / 1 GB/s, its slowest twice that."""
    create_run(path, info("bench", world_size, **({"run_id": path.name} | changes)))
    with RecordWriter(path / "collectives.jsonl") as writer:
        for size in sizes:
            time_s = 1e-3 + size / 1e9
            writer.append(
                CollectiveMeasurement(
                    op="all_reduce",
                    dtype="float32",
                    message_bytes=size,
                    world_size=world_size,
                    mode="isolated",
                    in_place=True,
                    warmup_iterations=5,
                    slowest_rank_s=(2 * time_s,) * 5,
                    fastest_rank_s=tuple(part * time_s for part in (0.8, 0.9, 1.0, 1.1, 1.2)),
                    timer="monotonic",
                    num_wrong=0,
                )
            )
    return path


def predictions(*world_sizes: int, created_at: str = DURING, extrapolated: bool = False) -> PredictionSet:
    return PredictionSet(
        created_at=created_at,
        single_step_s=0.1,
        profile_run_id="profile-n1",
        run_ids=("profile-n1", *(f"{kind}-n{n}" for n in world_sizes for kind in ("bench", "compute"))),
        predictions=tuple(
            Prediction(
                model=model,  # type: ignore[arg-type]
                formula=FORMULAS[model],
                world_size=n,
                step_s=step_s,
                interval_s=Interval(low=0.9 * step_s, high=1.1 * step_s) if model == "schedule" else None,
                exposed_s=step_s - 0.1,
                speedup=n * 0.1 / step_s,
                efficiency=0.1 / step_s,
                ratio_compute_to_comm=7.25,
                extrapolated=extrapolated,
                assumptions=("copies are free",) if model == "schedule" else (),
            )
            for n in world_sizes
            for model, step_s in STEPS_S[n].items()
        ),
        overheads=tuple(
            Overhead(
                world_size=n, single_step_s=0.1, compute_s=0.001, waiting_s=0.002, exposed_s=STEPS_S[n]["schedule"] - 0.103
            )
            for n in world_sizes
        ),
        break_evens=tuple(BreakEven(world_size=n, work_s=0.1 * n, compute_s=0.101, comm_s=0.02 * n) for n in world_sizes),
        schedules=tuple(
            ScheduledStep(
                world_size=n,
                backward_start_s=0.04,
                compute_end_s=0.1,
                step_s=STEPS_S[n]["schedule"],
                buckets=tuple(
                    ScheduledBucket(num_bytes=size, ready_s=0.06 * i, start_s=0.061 * i, done_s=0.064 * i, last_parameter=name)
                    for i, (size, name) in enumerate(((2**20, "head.weight"), (2_951_424, "embedding.weight")), 1)
                ),
            )
            for n in world_sizes
        ),
        changes=(
            Change(what="close buckets at 4 MiB", setting="bucket_cap_mb=4", world_size=4, seconds_saved=0.0105, speedup=3.9),
        ),
    )


def add_study(root: Path, **of_four: object) -> Path:
    """Write a finished study of 1, 2 and 4 ranks; `of_four` changes the run.json of its runs on 4."""
    create_run(root, info("study", 4, run_id=root.name, ranks=()))
    alone = replace(WORKLOAD, synchronised=False)
    add_train(root / "profile-n1", 1, 0.1)
    for world_size, step_s in ((2, 0.11), (4, 0.125)):
        changes = of_four if world_size == 4 else {}
        add_bench(root / f"bench-n{world_size}", world_size, **changes)
        add_train(root / f"compute-n{world_size}", world_size, 0.1, workload=alone, **changes)
        add_train(root / f"train-n{world_size}", world_size, step_s, buckets=True, started_at=AFTER, **changes)
    write_document(root / "analysis" / "predictions.json", predictions(2, 4))
    return root


class Page(HTMLParser):
    """A page read back: its elements with their attributes, its visible text, and a check that every tag is closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.source = path.read_text()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == [], "an element was never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def of(self, tag: str, name: str = "") -> list[dict[str, str]]:
        return [a for found, a in self.elements if found == tag and name in (a.get("class", ""), "")]

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.of("section")]

    def row(self, *cells: str) -> bool:
        """Say whether a table row holds these cells, in this order, one after the other."""
        return " ".join(cells) in self.text

    @property
    def files(self) -> list[str]:
        return [unquote(href, errors="surrogateescape") for href in self.values("href") if not href.startswith(("#", "data:"))]


def report(*paths: Path, out: Path | None = None) -> Page:
    beside = None if read_info(paths[0]).kind == "study" and len(paths) == 1 else paths[0] / "analysis" / "report.html"
    return Page(write_report(paths, out or beside).page)


EVERY_PAGE = [{}]  # scripts; none of them is loaded from anywhere
OWN_SCRIPTS = [{"type": "application/json", "id": "what-if-data"}, {}, *EVERY_PAGE]
HOSTILE = '<script>alert(1)</script>"onload="alert(1) $\\frac$ \'><img src=x onerror=alert(1)> \x1b[31m\u202e'
SHOWN = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\x202e")
