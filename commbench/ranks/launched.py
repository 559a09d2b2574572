"""Who started this process, and which rank is it? torchrun's variables say, else those of a job step of srun.

`--nproc` sets torchrun's variables as well, and one of its own. A child of torchrun under srun sees both: torchrun's hold,
because srun started torchrun and not the rank. A batch script has
SLURM_PROCID=0 without being a rank: only a step has SLURM_STEP_NUM_TASKS. The ranks of a step meet at its first node (one node:
the loopback address) unless MASTER_ADDR says otherwise, at MASTER_PORT or else

    20000 + (100 * job + step) mod 10000

so that neighbouring jobs and steps do not meet each other. No torch here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS

KEPT_VARIABLE = "COMMPROF_KEPT"  # set for ranks that --nproc started
_MOST_RANKS = 1_000_000
_PORTS_END = 2**16
_LOOPBACK = "127.0.0.1"
_FIRST_PORT = 20_000  # below 32768, where Linux begins to hand out ports by itself
_NUM_PORTS = 10_000
_STEPS_PER_JOB = 100
_RANGES = re.compile(r"(?P<prefix>[^\[\]]*)\[(?P<ranges>[^\[\]]+)\](?P<rest>.*)")
_OUTER_COMMA = re.compile(r",(?![^\[]*\])")
_MAX_BRACKETS = 256  # each is a level of recursion where they are of one name
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankContext:
    """One rank's place in the job. `num_nodes` assumes equally filled nodes, as torchrun makes them.

    `master` is host:port where the ranks meet; None where torch reads it from the environment, or there is nobody to meet.
    """

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    launcher: str
    master: str | None = None

    @property
    def num_nodes(self) -> int:
        return -(-self.world_size // self.local_world_size)


def was_started_as_rank(environ: Mapping[str, str]) -> bool:
    """Say whether a launcher that a rank must not outlive has started this process: ours or torchrun."""
    return KEPT_VARIABLE in environ or "TORCHELASTIC_RUN_ID" in environ


def detect_rank(environ: Mapping[str, str]) -> RankContext:
    """Return this process's place; one that neither torchrun nor srun made one of several is a world of its own.

    Raises BadInput for half an environment, and for a step whose nodes are not filled alike and in order.
    """
    if was_started_as_rank(environ) or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environ.keys():
        return _of_torchrun(environ)
    if environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _of_srun(environ)
    return RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")


def place_on_host(environ: Mapping[str, str], rank: int, world_size: int) -> tuple[int, int]:
    """Return the local rank, and the ranks of its host, of a process whose own process group said which of how many it is.

    Nothing but torchrun's variables, or those of a job step of as many tasks, tells of hosts: without them all ranks share one.
    """
    if "LOCAL_RANK" not in environ and environ.get("SLURM_STEP_NUM_TASKS") == str(world_size):
        tasks = tasks_per_node(environ["SLURM_STEP_TASKS_PER_NODE"])
        return int(environ["SLURM_LOCALID"]), tasks[int(environ["SLURM_NODEID"])]
    local, beside = environ.get("LOCAL_RANK") or rank, environ.get("LOCAL_WORLD_SIZE") or world_size
    return int(local), min(world_size, int(beside))


def _of_torchrun(environ: Mapping[str, str]) -> RankContext:
    try:
        context = RankContext(
            rank=int(environ["RANK"]),
            local_rank=int(environ.get("LOCAL_RANK", "0")),
            world_size=int(environ["WORLD_SIZE"]),
            local_world_size=int(environ.get("LOCAL_WORLD_SIZE", "1")),
            launcher="commprof" if KEPT_VARIABLE in environ else "torchrun",
        )
    except (KeyError, ValueError) as error:
        raise BadInput(f"torchrun's environment is incomplete ({error}); start through torchrun or --nproc") from None
    _check_place("RANK", context.rank, "WORLD_SIZE", context.world_size)
    if "LOCAL_WORLD_SIZE" in environ:
        _check_place("LOCAL_RANK", context.local_rank, "LOCAL_WORLD_SIZE", context.local_world_size)
        if context.local_world_size > context.world_size:
            raise BadInput(f"LOCAL_WORLD_SIZE={context.local_world_size} is more than WORLD_SIZE={context.world_size}")
    return context


def _check_place(name: str, place: int, size_name: str, size: int) -> None:
    """Raise BadInput, by the variables' names, for a place that no job has."""
    if not 1 <= size <= _MOST_RANKS:
        raise BadInput(f"{size_name}={size}: a job has 1 to {_MOST_RANKS} ranks; set it to their number")
    if not 0 <= place < size:
        raise BadInput(f"{name}={place} with {size_name}={size}: set it to 0 to {size - 1}, each once")


def _of_srun(environ: Mapping[str, str]) -> RankContext:
    try:
        rank, node = int(environ["SLURM_PROCID"]), int(environ["SLURM_NODEID"])
        tasks = tasks_per_node(environ["SLURM_STEP_TASKS_PER_NODE"])
        context = RankContext(
            rank=rank,
            local_rank=int(environ["SLURM_LOCALID"]),
            world_size=int(environ["SLURM_STEP_NUM_TASKS"]),
            local_world_size=tasks[0],
            launcher="srun",
            master=_meeting_place(environ),
        )
    except (KeyError, ValueError) as error:
        raise BadInput(f"srun's environment is incomplete ({error}); start as a job step, or with torchrun") from None
    _check_place("SLURM_PROCID", rank, "SLURM_STEP_NUM_TASKS", context.world_size)
    _check_place("SLURM_LOCALID", context.local_rank, "SLURM_STEP_TASKS_PER_NODE", tasks[0])
    if len(set(tasks)) > 1:
        placed = ",".join(map(str, tasks))
        raise BadInput(f"srun put {placed} tasks on the nodes; commprof needs as many on each, set --ntasks-per-node")
    if rank // tasks[0] != node:
        raise BadInput(f"srun put rank {rank} on node {node}; commprof needs a node's ranks in a row, use --distribution=block")
    return context


def _meeting_place(environ: Mapping[str, str]) -> str:
    alone = environ["SLURM_STEP_NUM_NODES"] == "1"
    host = environ.get("MASTER_ADDR") or (_LOOPBACK if alone else expand_hosts(environ["SLURM_STEP_NODELIST"])[0])
    step = _STEPS_PER_JOB * int(environ["SLURM_JOB_ID"]) + int(environ["SLURM_STEP_ID"])
    return f"{host}:{environ.get('MASTER_PORT') or _FIRST_PORT + step % _NUM_PORTS}"


def where_ranks_meet(context: RankContext, environ: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and the port of the ranks' store; raise BadInput where the environment does not say."""
    host, _, port = (context.master or f"{environ.get('MASTER_ADDR', '')}:{environ.get('MASTER_PORT', '')}").rpartition(":")
    if not host:
        raise BadInput("MASTER_ADDR is not set; set it to the host of rank 0, on every rank the same")
    if not port.isdecimal() or not 0 < int(port) < _PORTS_END:
        raise BadInput(f"MASTER_PORT={port} is no port; set it on every rank to the same free one, 1 to {_PORTS_END - 1}")
    return host, int(port)


def tasks_per_node(text: str) -> list[int]:
    """Return each node's number of tasks from SLURM's short form: "2(x3),1" is [2, 2, 2, 1]; raise ValueError otherwise."""
    matches = [_TASKS.fullmatch(word) for word in text.split(",")]
    if not all(matches):
        raise ValueError(f"tasks per node {text!r}")
    parts = [(int(match[1]), int(match[2] or 1)) for match in matches if match]
    if not all(1 <= tasks <= MAX_RANKS and nodes <= MAX_RANKS for tasks, nodes in parts):
        raise ValueError(f"tasks per node {text!r}; 1 to {MAX_RANKS} are taken")
    if sum(tasks * nodes for tasks, nodes in parts) > MAX_RANKS:
        raise ValueError(f"tasks per node {text!r}; at most {MAX_RANKS} ranks are taken")
    counts = [tasks for tasks, nodes in parts for _ in range(nodes)]
    if not counts:
        raise ValueError(f"tasks per node {text!r}")
    return counts


def expand_hosts(text: str) -> list[str]:
    """Return the hosts of SLURM's short form: "a[08-10,3],b" is a08, a09, a10, a3, b; raise ValueError otherwise."""
    if text.count("[") > _MAX_BRACKETS:
        raise ValueError(f"list of nodes {text[:80]!r}; at most {_MAX_BRACKETS} ranges are taken")
    hosts = list(islice((host for word in _OUTER_COMMA.split(text) for host in _expand(word)), MAX_RANKS + 1))
    if len(hosts) > MAX_RANKS:
        raise ValueError(f"list of nodes {text[:80]!r}; at most {MAX_RANKS} nodes are taken")
    if not hosts or not all(hosts) or any(letter in host for host in hosts for letter in "[]"):
        raise ValueError(f"list of nodes {text!r}")
    return hosts


def _expand(word: str) -> Iterator[str]:
    match = _RANGES.fullmatch(word)
    if match is None:
        yield word
        return
    for part in match["ranges"].split(","):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):  # beside other ranges, none of no host would be tried again and again
            raise ValueError(f"list of nodes {word[:80]!r}")
        for number in range(int(first), int(last or first) + 1):
            for rest in _expand(match["rest"]):  # a name may hold a second range: rack[1-2]node[1-4]
                yield f"{match['prefix']}{number:0{len(first)}}{rest}"


def named(ranks: Sequence[int]) -> str:
    """Write ranks as people say them."""
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
