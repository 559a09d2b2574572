"""One rank's profile and a bench whose every step is worked out on paper."""

from collections.abc import Sequence
from pathlib import Path

from commprof.analysis.report.numbers.verdict import Outcome, answers, cause_and_cure
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.runs.load import Run
from commprof.analysis.step.assumptions import checked_assumptions
from commprof.analysis.step.comparable import contradictions, without
from commprof.analysis.step.results import Prediction, PredictionSet
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


def verdict(predicted: PredictionSet, measured: Sequence[Outcome], runs: Sequence[Run]) -> list[str]:
    """Say of each world size what was predicted and measured, then cause and cure, with what forbids them in front."""
    others, contradicted = disturbance_text(runs), contradictions(runs, predicted)
    warned = [*([] if others is None else [others]), *(f"{reason}." for reason in dict.fromkeys(contradicted.values()))]
    sound = without(predicted, set(contradicted)) if contradicted else predicted
    if sound is None:
        return warned
    checking = [one for one in measured if one.prediction.world_size not in contradicted]
    found = answers(sound, checking, checked_assumptions(sound, runs), disturbed=others is not None)
    largest = sound.overheads[-1].world_size
    return [*warned, *found.values(), *cause_and_cure(sound, checking, runs, largest, disturbed=others is not None)]


def by_model(predicted: PredictionSet) -> dict[str, Prediction]:
    return {prediction.model: prediction for prediction in predicted.predictions}
