"""How large may a value of a training's configuration be? Far beyond what is trained; what is larger is refused at once.

Without them a mistyped number is a loop without end, an allocation that the system kills, or thousands of processes.
"""

from typing import Final

_STEPS: Final = 10**9
LARGEST: Final[dict[str, dict[str, float]]] = {
    "model": {
        **dict.fromkeys(("vocabulary", "feed_forward"), 10**7),
        **dict.fromkeys(("sequence_length", "d_model", "heads"), 10**6),
        "layers": 10**4,
    },
    "data": dict.fromkeys(("train_first", "eval_last"), _STEPS),
    "loader": {"workers": 256, "prefetch": 10**4},
    "training": {
        **dict.fromkeys(("batch_size", "max_steps", "checkpoint_every", "warmup_updates", "decay_updates"), _STEPS),
        **dict.fromkeys(("accumulation", "epochs", "learning_rate", "weight_decay"), 10**6),
        "clip_norm": 1e30,
        "seed": 2**63 - 1,
    },
    "distributed": {
        **dict.fromkeys(("bucket_cap_mb", "first_bucket_mb"), 2**20),
        **dict.fromkeys(("powersgd_rank", "timeout_s"), 10**6),
        "threads_per_rank": 4096,
        "powersgd_start": _STEPS,
    },
    "profiling": {
        **dict.fromkeys(("warmup_steps", "trace_wait"), _STEPS),
        **dict.fromkeys(("trace_warmup", "trace_repeat"), 10**6),
    },
}
BYTES_PER_PARAMETER: Final = 16  # float32: a weight, its gradient and Adam's two moments


def least_parameters(vocabulary: int, d_model: int, layers: int, feed_forward: int) -> int:
    """Return how many parameters a model has at least: embedding, attention (4 d^2 a layer) and feed-forward (2 d f)."""
    return vocabulary * d_model + layers * (4 * d_model**2 + 2 * d_model * feed_forward)
