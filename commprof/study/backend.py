"""Which backend do a study's ranks take, by the GPUs that they find?"""

from dataclasses import replace

from commprof.commbench.errors import BadInput
from commprof.study.config import StudyConfig


def with_backend(study: StudyConfig, gpus: int) -> StudyConfig:
    """Return the study with its backend settled for `gpus` that the ranks on this machine can take; raise BadInput for too few.

    Too few for all world sizes leave gloo: ranks that compute on GPUs do not compare with ranks that compute on the host.
    """
    ranks = max(study.world_sizes)
    if study.launcher == "slurm" or not 0 < gpus < ranks:
        return study
    if study.backend == "nccl":
        raise BadInput(
            f"backend nccl: {gpus_in_words(gpus)} for {ranks} ranks, and NCCL takes one rank a GPU; use backend=gloo"
        )
    return replace(study, backend="gloo")


def rank_environment(study: StudyConfig) -> dict[str, str]:
    """Return the ranks' variables: as many threads at every world size, and of a script's no GPU where they meet over gloo."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if study.scripts and study.backend == "gloo" else {}
    return {"OMP_NUM_THREADS": str(study.threads_per_rank), **hidden}


def gpus_in_words(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"
