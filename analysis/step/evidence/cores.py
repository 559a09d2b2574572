"""How much longer do ranks compute that have to share a machine's cores, with each other and with what else runs there?

Of T threads that want to run on C cores each gets C/T of one. With t threads a rank, and others that keep o cores busy while
one rank is profiled, n ranks take

    max(1, (n t + o)/C) / max(1, (t + o)/C)

times as long as the profile: a scheduler that is fair to threads, and others who go on as they did.
"""

from commprof.analysis.runs.load import Run


def cores_slowdown(profile: Run, ranks_on_cores: int, others: float) -> float:
    """Return how many times as long as in `profile` ranks compute, `ranks_on_cores` of them on its host; 0 stands for devices.

    `others`: of the host's cores, as many as other processes kept busy meanwhile (`others_cores`).
    """
    cores, threads = profile.info.cores_per_node, profile.info.threads_per_rank
    wanted, had = ranks_on_cores * threads + others, profile.world_size * threads + others
    return max(1.0, wanted / cores) / max(1.0, had / cores) if ranks_on_cores else 1.0
