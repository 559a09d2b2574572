"""`commprof train CONFIG key=value ...`: one training run, measured.

The configuration and the data are checked before a process group opens, so that a wrong key or a malformed article costs
a second and not an allocation.
"""

import argparse
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from commprof.commbench.display.terminal import Output
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.hardware import available_memory_bytes, has_nvidia_driver, usable_cores
from commprof.commbench.ranks.arguments import add_launch_arguments, check_gpus, check_launch_arguments, check_resume
from commprof.commbench.ranks.launched import detect_rank
from commprof.commbench.ranks.loading import load_torch
from commprof.commbench.ranks.stopping import StopRequest
from commprof.commbench.records.rundir import write_text
from commprof.commbench.records.training_kind import TrainingKind
from commprof.commbench.records.types import Workload
from commprof.commbench.units import format_bytes
from commprof.commbench.verb import RunName, Verb
from commprof.train.board import check_tensorboard
from commprof.train.config.exchange import check_replicas
from commprof.train.config.limits import BYTES_PER_PARAMETER, least_parameters
from commprof.train.config.load import dump_config
from commprof.train.config.schedule import count_steps, samples_per_rank
from commprof.train.config.types import TrainConfig, load_train_config
from commprof.train.text.articles import dataset_name
from commprof.train.text.dataset import prepare_data
from commprof.train.traces import opening_traces

if TYPE_CHECKING:
    from torch import nn

    from commprof.train.checkpoint import Checkpoint


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a YAML file, for example configs/small.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for example training.batch_size=64")
    parser.add_argument(
        "--resume",
        type=RunName(ended_early=True),
        metavar="RUN",
        help="go on with a run that ended early, from its last checkpoint",
    )
    add_launch_arguments(parser)


def check_train(args: argparse.Namespace) -> None:
    """Raise BadInput for a wrong configuration or unusable data; encodes the data into the cache on the way."""
    check_launch_arguments(args)
    if args.config is None or ("=" in args.config.name and not args.config.exists()):
        raise BadInput(f"name a configuration first: commprof train {_a_config()} training.max_steps=50")
    config = load_train_config(args.config, args.overrides)
    args.timeout = config.distributed.timeout_s  # other verbs have a flag for it; the launcher asks for it alike
    check_gpus(args, config.distributed.backend, flag="distributed.backend=gloo")
    training, _ = prepare_data(config.data, config.model)
    world_size = args.nproc or detect_rank(os.environ).world_size
    check_replicas(config.distributed, world_size)
    num_steps = count_steps(len(training.labels), config, world_size)
    _check_options(config)
    _check_memory(config, args.nproc or detect_rank(os.environ).local_world_size)
    if args.resume is not None:
        check_resume(args, "train")
        checkpoint = _checkpoint(args, config, world_size)
        if checkpoint.step >= num_steps:
            mend = "raise training.max_steps or training.epochs"
            raise BadInput(f"{checkpoint.path} is past the end of a training of {num_steps} steps; {mend}")


def _a_config() -> str:
    """Name a configuration that is here, or one of ours."""
    return str(
        next((path for path in sorted(Path("configs").glob("*.yaml")) if "study" not in path.name), "configs/small.yaml")
    )


def _check_options(config: TrainConfig) -> None:
    """Raise BadInput for what this torch, or the packages that are there, do not allow."""
    if config.training.tensorboard:
        check_tensorboard()
    if config.distributed.first_bucket_mb is not None:
        from commprof.train.trainee import check_first_bucket  # brings torch

        check_first_bucket(config.distributed)


def _check_memory(config: TrainConfig, num_ranks: int) -> None:
    """Raise BadInput for a model whose training does not fit into this host's memory; a GPU's is not known here."""
    model = config.model
    if has_nvidia_driver() and config.distributed.backend != "gloo":
        return
    parameters = least_parameters(model.vocabulary, model.d_model, model.layers, model.feed_forward)
    needed, free = BYTES_PER_PARAMETER * parameters * num_ranks, available_memory_bytes()
    if free is not None and needed > free:
        raise BadInput(
            f"model.d_model={model.d_model}, model.layers={model.layers}: {parameters:.3g} parameters on {num_ranks} ranks of "
            f"this host need {format_bytes(needed)} of memory and {format_bytes(free)} is free; lower them"
        )


def _checkpoint(args: argparse.Namespace, config: TrainConfig, world_size: int) -> "Checkpoint":
    from commprof.train.checkpoint import load_checkpoint  # brings torch, which a run that begins anew is checked without

    return load_checkpoint(args.resume, config, world_size)


def train_verb(args: argparse.Namespace) -> int:
    """Train as one rank; rank 0 prints a summary. Returns 0."""
    config = load_train_config(args.config, args.overrides)
    # Listened to before torch is imported: a warning that comes meanwhile ends the run after its first step.
    stop = None if config.training.checkpoint_every is None else StopRequest((signal.SIGUSR2,))
    load_torch(to_train=True)
    import torch

    from commprof.commbench.ranks.runtime import process_group, rank_device, resolve_backend
    from commprof.commbench.ranks.session import open_run
    from commprof.train.checkpoint import restore
    from commprof.train.loop import train
    from commprof.train.summary import peak_memory_bytes, summary_text, write_summary
    from commprof.train.trainee import build_trainee

    training, evaluation = prepare_data(config.data, config.model)
    context = detect_rank(os.environ)
    torch.set_num_threads(config.distributed.threads_per_rank or max(1, usable_cores() // context.local_world_size))
    backend = resolve_backend(config.distributed.backend)
    device = rank_device(context, backend)
    resumed = None if args.resume is None else _checkpoint(args, config, context.world_size)
    alone = context.launcher == "single" and config.distributed.strategy == "ddp"  # one shard needs its mesh too
    with nullcontext() if alone else process_group(context, backend, config.distributed.timeout_s, device) as roll:
        trainee = build_trainee(config, device)
        workload = _workload(config, trainee.model, context.world_size)
        folders = {"root": args.out, "path": args.resume or args.folder, "resume": resumed is not None}
        if resumed is not None:
            restore(resumed, trainee, context)
        with open_run("train", context, device, roll=roll, backend=backend, workload=workload, **folders) as run:
            if context.rank == 0:
                write_text(run / "config.yaml", dump_config(config))
            train(config, trainee, training, evaluation, context, run, resumed=resumed, stop=stop)
            memory_bytes = peak_memory_bytes(device)
            if context.rank == 0:
                write_summary(run, config, memory_bytes)
        del trainee  # DDP's reducer, gone after the group, would wait for gloo's threads and keep from them Python's lock
    if context.rank == 0:
        hint = [opening_traces(run)] if config.profiling.perfetto_hint else []
        Output(enabled=True)("\n".join([summary_text(run), *hint]))
    return 0


def _workload(config: TrainConfig, model: "nn.Module", world_size: int) -> Workload:
    from commprof.commbench.recorder.ddp_settings import broadcast_bytes
    from commprof.train.model import count_parameters, gradient_bytes

    training, distributed = config.training, config.distributed
    scaling: Literal["weak", "strong"] = "strong" if training.scaling == "strong" else "weak"
    first_bucket_bytes, bucket_cap_bytes = distributed.bucket_caps_bytes
    return Workload(
        experiment=config.experiment_name,
        num_parameters=count_parameters(model),
        gradient_bytes=gradient_bytes(model),
        samples_per_rank=samples_per_rank(training, world_size),
        sequence_length=config.model.sequence_length,
        first_bucket_bytes=first_bucket_bytes,
        bucket_cap_bytes=bucket_cap_bytes,
        synchronised=distributed.synchronisation != "compute_only",
        scaling=scaling,
        precision=training.precision,
        accumulation=training.accumulation,
        communication_hook=distributed.communication_hook,
        synchronisation=distributed.synchronisation,
        gradient_as_bucket_view=distributed.gradient_as_bucket_view,
        static_graph=distributed.static_graph,
        find_unused_parameters=distributed.find_unused_parameters,
        buffer_bytes=broadcast_bytes(model),
        starts_together=distributed.synchronisation == "compute_only",
        dataset=dataset_name(config.data),
        kind=_kind(config, world_size),
    )


def _kind(config: TrainConfig, world_size: int) -> TrainingKind:
    if config.distributed.strategy == "ddp":
        return "ddp" if world_size > 1 else "none"
    return "hsdp" if config.distributed.strategy == "hsdp" and world_size > 1 else "fsdp2"


VERB = Verb(
    summary="train the text classifier under DDP or sharded (plain on one process), recording steps, gradients and traces",
    examples=(
        "commprof train configs/small.yaml --nproc 2 training.max_steps=60",
        "torchrun --nproc-per-node 4 --no-python commprof train configs/large.yaml",
    ),
    add_arguments=add_train_arguments,
    check=check_train,
    run=train_verb,
)
