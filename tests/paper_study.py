"""One rank's profile and a bench whose every step is worked out on paper."""

from pathlib import Path

from tests.factory import MIB, step, timeline, write_bench_run, write_training_run

# Backward takes 60 ms; 1 MiB is ready at half of it, 8 MiB (the embedding) at its end.
GRADIENTS = timeline([("head", MIB, 0.03), ("embedding", 8 * MIB, 0.06)], backward_s=0.06)
LATENCY_S, BANDWIDTH = 100e-6, 1e9
STEPS = [step(i) for i in range(20)]  # 103 ms each, all alike
TAIL_S = LATENCY_S + 8 * MIB / BANDWIDTH  # what the last bucket costs after backward has ended


def study(folder: Path, *, latency_s: float = LATENCY_S, world_size: int = 2, backend: str = "gloo") -> list[Path]:
    return [
        write_training_run(folder / "profile", STEPS, gradients=GRADIENTS, backend=backend),
        write_bench_run(folder / "bench", latency_s, BANDWIDTH, world_size=world_size, backend=backend),
    ]
