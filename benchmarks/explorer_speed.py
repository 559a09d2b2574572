"""How long does the report's page take to answer a what-if? From the moved control to the finished layout, in the page.

    make benchmark-explorer            under a minute, needs Chromium; results in docs/results/explorer.md

Two made-up trainings on six world sizes: 27 gradients of 7.7 MB and 300 of 1.4 GB, the latter with bucket caps down to 1 MiB.
Each redraw moves one control, simulates every world size and its draws, draws both figures and makes the browser lay the page
out.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from math import log
from pathlib import Path
from statistics import median

from benchmarks.browser import chromium, visit
from benchmarks.machine import describe_machine
from commprof.analysis.report.explorer.curve import curve_of
from commprof.analysis.report.explorer.draws import KEPT, Draw, Draws
from commprof.analysis.report.explorer.page_data import DdpPlace, Explorer, Gradients, PageData, Place
from commprof.analysis.report.page.html import Report, Section, render
from commprof.analysis.runs.interval import Interval
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.rundir import now_utc, write_text

REDRAWS = 200
WORLD_SIZES = (2, 4, 8, 16, 32, 64)
MOVE = """
const names = ["wire", "bandwidth", "latency", "batch", "accumulation", "cap", "ranks", "precision"];
const taken = [];
const buckets = [];
for (let i = 0; i < %d; i += 1) {
  const control = document.getElementById("what-if-" + names[i %% names.length]);
  const share = (i * 0.61803398875) %% 1;
  const choices = control.options ? [...control.options].map((option) => option.value) : null;
  const place = Number(control.min) + share * (control.max - control.min);
  const value = choices ? choices[Math.floor(share * choices.length)] : place;
  const before = performance.now();
  control.value = value;
  control.dispatchEvent(new Event("input"));
  document.body.getBoundingClientRect();
  taken.push(performance.now() - before);
  buckets.push(Number(/([0-9]+) buckets?/.exec(document.getElementById("what-if-summary").textContent)[1]));
}
return [taken, Math.max(...buckets)];
"""


def line(world_size: int) -> CostModel:
    """Return a wire of 30 us and 20 GB/s a doubling slower, benched from 8 bytes to 1 GiB."""
    latency_s, bandwidth = 30e-6 * world_size, 20e9 / world_size
    sizes = tuple(2**k for k in range(3, 31))
    exact = Interval(low=latency_s, high=latency_s)
    return CostModel(
        op="all_reduce",
        world_size=world_size,
        latency_s=latency_s,
        latency_interval_s=exact,
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_interval=exact,
        message_bytes=sizes,
        median_s=tuple(latency_s + size / bandwidth for size in sizes),
        num_samples=len(sizes),
        line_error=0.0,
        comm_cores=0.0,
        verdict="sound",
        run_ids=(),
    )


def draws(backward_s: float, smallest: float, largest: float) -> Draws:
    """Return draws that all say the same: what they say does not matter to how long it takes."""
    own = Draw(
        before_s=0.5 * backward_s,
        backward_s=backward_s,
        copy_s=0.05 * backward_s,
        update_s=0.1 * backward_s,
        compute_rate=1.0,
        comm_rate=1.0,
        wait_s=0.0,
        pace=1.0,
        exposed=1.0,
        ratios=(1.0, 1.0),
    )
    return Draws(log_bytes=(log(smallest), log(largest)), draws=(own,) * KEPT)


def training(sizes: Sequence[int], backward_s: float) -> PageData:
    """Return what a page would be given of a training whose gradients have these sizes and are ready at an even pace."""
    gradients = Gradients(num_bytes=tuple(sizes), ready=tuple((i + 1) / len(sizes) for i in range(len(sizes))))
    places = tuple(
        Place(
            world_size=n,
            extrapolated=False,
            spoken=True,
            work_s=1.6 * n * backward_s,
            work_update_s=0.1 * n * backward_s,
            own_paces=((1.0,) * KEPT,) * 2,
            ddp=DdpPlace(
                before_s=0.5 * backward_s,
                backward_s=backward_s,
                copy_s=0.05 * backward_s,
                update_s=0.1 * backward_s,
                buffers_latency_s=0.0,
                buffers_transfer_s=0.0,
                gradients=0,
                curve=curve_of(line(n), min(sizes) / 2, sum(sizes)),
                latency_s=line(n).latency_s,
                busbw_bytes_per_s=line(n).busbw_bytes_per_s,
                workers=2,
                wait_s=0.0,
                compute_rate=0.8,
                comm_rate=0.7,
                draws=draws(backward_s, min(sizes) / 2, sum(sizes)),
                measured=None,
            ),
        )
        for n in WORLD_SIZES
    )
    return PageData(
        samples=32,
        accumulation=1,
        first_cap_bytes=2**20,
        cap_bytes=25 * 2**20,
        whole_buckets=False,
        sent_share=1.0,
        delayed=False,
        conversion_passes=2.0,
        gradients=(gradients,),
        places=places,
    )


def page_of(data: PageData) -> str:
    explorer = Explorer(data=data, steps="no steps: made up", sources=(), first=2)
    section = Section(name="what-if", title="What if", explorer=explorer)
    return render(
        Report(
            title="made up",
            subtitle="",
            headline=None,
            sentences=(),
            sources=(),
            warnings=(),
            pictures=(),
            sections=(section,),
            written_at=now_utc(),
        )
    )


def row(name: str, data: PageData) -> str:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        write_text(page, page_of(data))
        visited = visit(page, MOVE % REDRAWS)
        weight = page.stat().st_size
    assert isinstance(visited.value, list)
    taken, buckets = visited.value
    p95 = sorted(taken)[int(0.95 * len(taken))]
    return f"| {name} | {buckets} | {median(taken):.1f} ms | {p95:.1f} ms | {max(taken):.1f} ms | {weight / 1e3:.0f} kB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    args = parser.parse_args()
    if chromium() is None:
        sys.exit("no Chromium on the path; apt-get install chromium")
    cases = {
        "27 gradients, 7.7 MB": training([286_000] * 27, 0.1),
        "300 gradients, 1.4 GB": training([4_700_000] * 300, 0.5),
    }
    rows = [row(name, data) for name, data in cases.items()]
    head = [
        "| training | buckets, at most | median | 95th percentile | slowest | page with this alone |",
        "|---|---|---|---|---|---|",
    ]
    note = f"- {REDRAWS} redraws each: one control moved, {len(WORLD_SIZES)} world sizes simulated, two figures drawn, laid out"
    lines = ["# What-if in the page", "", describe_machine(), note, "", *head, *rows]
    write_text(args.out / "explorer.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
