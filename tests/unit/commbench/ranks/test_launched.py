import pytest

from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.launched import detect_rank, expand_hosts, place_on_host, tasks_per_node, where_ranks_meet

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "h",
}
# What SLURM 22.05 sets in the second task of the second node of `sbatch -N2 --ntasks-per-node=2`, srun in it.
BATCH = {
    "SLURM_JOB_ID": "4321",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_TASKS_PER_NODE": "2(x2)",
}
STEP = {
    **BATCH,
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "5",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[07-08]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}


def test_torchruns_variables_say_who_we_are() -> None:
    context = detect_rank(TORCHRUN)
    assert (context.rank, context.local_rank, context.world_size, context.num_nodes) == (5, 1, 8, 2)
    assert (context.launcher, context.master) == ("torchrun", None)


def test_a_rank_of_our_own_launcher_is_told_apart() -> None:
    context = detect_rank({**TORCHRUN, "COMMPROF_KEPT": "1"})
    assert (context.rank, context.world_size, context.launcher) == (5, 8, "commprof")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "MASTER_PORT= is no port"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT=99999 is no port"),
        ({"MASTER_PORT": "x"}, "MASTER_PORT=x is no port"),
        ({"MASTER_PORT": "5", "MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    ],
)
def test_a_meeting_place_that_is_none_is_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        where_ranks_meet(detect_rank(TORCHRUN), {**TORCHRUN, **change})


def test_ranks_meet_where_their_launcher_says() -> None:
    environ = {**TORCHRUN, "MASTER_PORT": "29500"}
    assert where_ranks_meet(detect_rank(environ), environ) == ("h", 29500)
    assert where_ranks_meet(detect_rank(STEP), STEP) == ("n07", 22105)


def test_a_step_of_srun_says_who_we_are_and_where_to_meet() -> None:
    context = detect_rank(STEP)
    assert (context.rank, context.local_rank, context.world_size, context.num_nodes) == (3, 1, 4, 2)
    assert (context.launcher, context.master) == ("srun", "n07:22105")  # job ..21, step 05


def test_a_rank_of_torchrun_under_srun_is_torchruns() -> None:
    assert detect_rank({**STEP, **TORCHRUN}) == detect_rank(TORCHRUN)


@pytest.mark.parametrize(
    ("change", "master"),
    [
        ({"MASTER_PORT": "6000"}, "n07:6000"),
        ({"MASTER_ADDR": "10.0.0.7"}, "10.0.0.7:22105"),
        ({"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_NODEID": "0"}, "127.0.0.1:22105"),
        ({"SLURM_STEP_ID": "105"}, "n07:22205"),
    ],
)
def test_the_meeting_place_can_be_set_and_is_local_on_one_node(change: dict[str, str], master: str) -> None:
    assert detect_rank({**STEP, **change}).master == master


@pytest.mark.parametrize("environ", [{"RANK": "3"}, BATCH, {**STEP, "SLURM_STEP_NUM_TASKS": "1"}])
def test_a_stray_variable_a_batch_script_and_a_lone_task_are_worlds_of_their_own(environ: dict[str, str]) -> None:
    context = detect_rank(environ)
    assert (context.rank, context.world_size, context.launcher) == (0, 1, "single")


@pytest.mark.parametrize(
    ("whole", "change", "words"),
    [
        (TORCHRUN, {"RANK": "five"}, "torchrun's environment is incomplete"),
        (TORCHRUN, {"WORLD_SIZE": None}, "torchrun's environment is incomplete"),
        (TORCHRUN, {"WORLD_SIZE": "0"}, "WORLD_SIZE=0: a job has 1 to"),
        (TORCHRUN, {"WORLD_SIZE": "99999999999"}, "WORLD_SIZE=99999999999: a job has 1 to"),
        (TORCHRUN, {"RANK": "8"}, "RANK=8 with WORLD_SIZE=8: set it to 0 to 7"),
        (TORCHRUN, {"RANK": "-1"}, "RANK=-1 with WORLD_SIZE=8"),
        (TORCHRUN, {"LOCAL_RANK": "4"}, "LOCAL_RANK=4 with LOCAL_WORLD_SIZE=4"),
        (TORCHRUN, {"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0: a job has 1 to"),
        (TORCHRUN, {"LOCAL_WORLD_SIZE": "9"}, "LOCAL_WORLD_SIZE=9 is more than WORLD_SIZE=8"),
        (STEP, {"SLURM_PROCID": "4"}, "SLURM_PROCID=4 with SLURM_STEP_NUM_TASKS=4"),
        (STEP, {"SLURM_STEP_NUM_TASKS": "0"}, "SLURM_STEP_NUM_TASKS=0: a job has"),
        (STEP, {"SLURM_LOCALID": "2"}, "SLURM_LOCALID=2 with SLURM_STEP_TASKS_PER_NODE=2"),
        (STEP, {"SLURM_PROCID": None}, "srun's environment is incomplete"),
        (STEP, {"SLURM_STEP_NODELIST": "n[1-"}, "srun's environment is incomplete"),
        (STEP, {"SLURM_STEP_TASKS_PER_NODE": "3,1"}, "set --ntasks-per-node"),
        (STEP, {"SLURM_NODEID": "0"}, "use --distribution=block"),
    ],
)
def test_what_cannot_be_told_is_refused(whole: dict[str, str], change: dict[str, str | None], words: str) -> None:
    environ = {name: value for name, value in {**whole, **change}.items() if value is not None}
    with pytest.raises(BadInput, match=words):
        detect_rank(environ)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("a,b-2", ["a", "b-2"]),
        ("prefix[01-03,7]", ["prefix01", "prefix02", "prefix03", "prefix7"]),
        ("gpu[099-101]-ib,login", ["gpu099-ib", "gpu100-ib", "gpu101-ib", "login"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_lists_of_nodes_are_written_out(text: str, hosts: list[str]) -> None:
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize("text", ["", "n[1-", "n[]", "n[a-b]", "n1]", "a,,b", "n[3-1]"])
def test_what_is_no_list_of_nodes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"list of nodes|invalid literal"):
        expand_hosts(text)


def test_tasks_per_node_are_written_out() -> None:
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    for text in ("", "2(3)", "0", "x"):
        with pytest.raises(ValueError, match="tasks per node"):
            tasks_per_node(text)


@pytest.mark.parametrize(
    ("environ", "rank", "place"),
    [
        ({}, 1, (1, 4)),  # a script that starts its own
        (TORCHRUN | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, 3, (1, 2)),
        (STEP | {"SLURM_PROCID": "3"}, 3, (1, 2)),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "3,1", "SLURM_LOCALID": "0"}, 3, (0, 1)),
        (STEP | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}, 0, (0, 4)),  # torchrun inside a step
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, 2, (2, 4)),  # ranks of a script that is a step's one task
    ],
)
def test_a_rank_knows_who_shares_its_host_by_its_launchers_variables(
    environ: dict[str, str], rank: int, place: tuple[int, int]
) -> None:
    assert place_on_host(environ, rank, 4) == place
