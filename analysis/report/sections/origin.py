"""Where a report's numbers come from: warnings, environment, and every raw file with its size."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from commprof.analysis.report.numbers.data import Material, count_steps
from commprof.analysis.report.page.html import Cell, Link, Section, Table
from commprof.analysis.runs.load import Run
from commprof.commbench.records.training_kind import KIND_NAMES
from commprof.commbench.records.types import RunInfo
from commprof.commbench.units import format_bytes

_MOST_NAMED = 12  # runs
_BUCKETED = (None, "none", "ddp", "zero_redundancy_optimizer", "replicate")  # by DDP's reducer, or will be


def how_measured(material: Material) -> str:
    """Say in a sentence on what the runs were, and on how many steps the trainings' medians rest."""
    trained = [run for run in _used(material) if run.info.kind == "train" and run.has_counted_steps]
    counted = f" Steps are medians of {count_steps(trained)}." if trained else ""
    return f"{_environment_gist(material.runs)}{counted}"


def environment_section(material: Material) -> Section:
    """Return what ran where; a value that differs between runs names the runs it belongs to."""
    values: dict[str, dict[str, list[str]]] = {}
    for run in material.runs:
        for name, value in facts(run.info):
            values.setdefault(name, {}).setdefault(value, []).append(run.path.name)
    rows = tuple((name, _told(by_value)) for name, by_value in values.items())
    return Section(
        name="environment",
        title="Environment",
        folded=True,
        sentences=(_environment_gist(material.runs),),
        tables=(
            Table(title="What was run, and on what", head=("What", "Value"), rows=rows, words=frozenset({0, 1})),
            _run_table(material.runs),
        ),
    )


def _environment_gist(runs: Sequence[Run]) -> str:
    devices = dict.fromkeys(rank.device_name for run in runs for rank in run.info.ranks)
    hosts = {rank.hostname for run in runs for rank in run.info.ranks}
    versions = dict.fromkeys(f"torch {run.info.software.torch}" for run in runs if run.info.software.torch)
    backends = dict.fromkeys(run.info.backend for run in runs if run.world_size > 1)
    where = f"{len(hosts)} host{'s'[: len(hosts) != 1]}"
    return f"{', '.join([*devices, where, *versions, *backends])}."


def file_section(material: Material, page: Path) -> Section:
    """Return what the page used, where it was written, what it left out, and every file below the runs, linked from there."""
    inside = {run.path for run in material.runs}
    folders = {**material.studies, **{run.path: run.info for run in material.runs}}
    tables = tuple(
        _file_table(info, _files_below(folder, inside - {folder}, page), folder, page) for folder, info in folders.items()
    )
    return Section(
        name="files",
        title="Files",
        folded=True,
        sentences=(
            f"{ledger(material)} Wrote: {page}.",
            "Traces (*.trace.json.gz) open in ui.perfetto.dev: choose Open trace file. It reads them in the browser and "
            "sends them nowhere. Reduced ones (*.reduced.gz) are what commprof trace reads. The .jsonl files hold one record a "
            "line; units are the suffixes of the field names.",
        ),
        tables=tables,
    )


def ledger(material: Material) -> str:
    """Say which runs the verdict rests on, and which were left out of it."""
    used = [run.path.name for run in _used(material)]
    shown = ", ".join(used[:_MOST_NAMED]) + (f" and {len(used) - _MOST_NAMED} more" if len(used) > _MOST_NAMED else "")
    return f"Used: {shown}. {_left_out(material)}"


def _used(material: Material) -> list[Run]:
    """Return the runs that prediction and verdict rest on; without a prediction all that measured something."""
    if material.predicted is None:
        return list(material.runs)
    return [run for run in material.runs if run in material.known or run in material.checking]


def _left_out(material: Material) -> str:
    names = [run.path.name for run in material.runs if run not in _used(material)]
    return f"Shown, but not in the verdict: {', '.join(names)}." if names else "Left out: nothing."


def file_link(path: Path, page: Path, shown: str) -> Link:
    """Return a link to a file, relative to where the page lies."""
    relative = os.fsencode(os.path.relpath(path.absolute(), page.absolute().parent))
    return Link(text=shown, href=quote(relative))


def facts(info: RunInfo) -> Iterator[tuple[str, str]]:
    """Yield name and value of what decides how fast a run is; the same name twice where there are several values."""
    yield from _workload_facts(info)
    yield "Backend", info.backend
    if info.imported_from is not None:
        yield (
            "Imported from",
            f"{info.imported_from}, {_source(info)}; what it does not name is unknown",
        )
    else:
        yield "Launcher", info.launcher
        yield "Hosts", f"{info.num_nodes} with {info.cores_per_node} cores each"
        yield "Threads per rank", str(info.threads_per_rank)
    for host, device in dict.fromkeys((rank.hostname, rank.device_name) for rank in info.ranks):
        yield "Devices", f"{host}: {device}"
    for name in ("python", "torch", "cuda", "nccl", "driver"):
        if (version := getattr(info.software, name)) is not None:
            yield name, version
    if info.git_commit is not None:
        yield "Git commit", info.git_commit
    for name, value in sorted(info.environ.items()):
        yield name, value


def _source(info: RunInfo) -> str:
    return "a log of another program" if info.workload is None else "traced under torch.profiler"


def _workload_facts(info: RunInfo) -> Iterator[tuple[str, str]]:
    work = info.workload
    if work is None:
        return
    yield "Training", f"{work.experiment}: {work.num_parameters:,} parameters, {format_bytes(work.gradient_bytes)} of gradients"
    if work.kind not in (None, "none"):
        yield "Strategy", KIND_NAMES[work.kind]
    if work.scaling == "weak":
        yield "Scaling", f"weak: {work.samples_per_rank} samples per rank and step at every world size"
    else:
        yield "Scaling", f"strong: {work.samples_per_rank * info.world_size} samples per step, shared by the ranks"
    if work.precision != "float32":
        yield "Precision", work.precision
    if work.accumulation > 1:
        yield "Accumulation", f"{work.accumulation} micro-batches per step"
    if work.communication_hook != "none":
        yield "Communication hook", work.communication_hook
    if work.sequence_length is not None:
        yield "Sequence length", f"{work.sequence_length} tokens"
    if work.whole_buckets:
        yield "Buckets", "as traced; what is in them is not known"
    elif work.kind in _BUCKETED:
        first, others = format_bytes(work.first_bucket_bytes), format_bytes(work.bucket_cap_bytes)
        yield "Buckets close at", f"{first} (first), {others} (others)"


def _told(by_value: dict[str, list[str]]) -> str:
    """Say a value alone where all runs that have one share it, else each value with its runs."""
    having = {run for runs in by_value.values() for run in runs}
    return "; ".join(
        value if len(set(runs)) == len(having) else f"{value} ({', '.join(runs)})" for value, runs in by_value.items()
    )


def _run_table(runs: Iterable[Run]) -> Table:
    rows = []
    for run in runs:
        info = run.info
        counted = sum(step.counts for steps in run.steps.values() for step in steps)
        measured = len(run.collectives) + len(run.contention) + len(run.links) + len(run.pairs)
        held = f"{counted} steps" if info.kind == "train" else f"{measured} measurements"
        times = (_clock(info.started_at), _clock(info.ended_at or "-"))
        rows.append((run.path.name, info.kind, str(info.world_size), info.status, *times, held))
    head = ("Run", "Kind", "Ranks", "Status", "Started (UTC)", "Ended (UTC)", "Holds")
    return Table(
        title="Runs",
        note="Steps are those of all ranks that count: neither warm-up nor profiled.",
        head=head,
        rows=tuple(rows),
        words=frozenset({0, 1, 3, 4, 5}),
    )


def _clock(stamp: str) -> str:
    """Shorten a stamp of `now_utc` for a column that says UTC."""
    return stamp.removesuffix("+00:00").replace("T", " ")


def _files_below(folder: Path, apart: Collection[Path], page: Path) -> list[Path]:
    """Return the files below a folder, those below the folders in `apart` and the page itself left out.

    Hidden ones are left out too: they are about to be renamed to what they will be. Links to folders are not followed.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in apart]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path != page.resolve())


def _file_table(info: RunInfo, files: Sequence[Path], folder: Path, page: Path) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for path in files:
        shown = os.fsencode(path.relative_to(folder)).decode(errors="replace")
        rows.append((file_link(path, page, shown), format_bytes(path.lstat().st_size)))
    return Table(
        title=f"{folder.name}: {len(rows)} files",
        note=f"Written by: {' '.join(info.command)}",
        head=("File", "Size"),
        rows=tuple(rows),
        words=frozenset({0}),
        folded=True,
    )
