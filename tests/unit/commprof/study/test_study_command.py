"""The command of a training that is not ours: how it is started on N ranks, and how one that cannot be is refused."""

import pytest

from commprof.commbench.errors import BadInput
from commprof.study.command import check_command, name_of, words_at
from tests.unit.commprof.conftest import COMMAND, RUN

pytestmark = pytest.mark.usefixtures("script_home")


@pytest.mark.parametrize(
    ("command", "one", "four"),
    [
        ("python train.py -a 'b c'", ["python", "train.py", "-a", "b c"], ["python", *RUN, "4", "train.py", "-a", "b c"]),
        ("/x/python3.12 -u train.py", ["/x/python3.12", "-u", "train.py"], ["/x/python3.12", *RUN, "4", "train.py"]),
        ("python -m my.go -m 3", ["python", "-m", "my.go", "-m", "3"], ["python", *RUN, "4", "-m", "my.go", "-m", "3"]),
        ("torchrun --nproc={n} x.py", ["torchrun", "--nproc=1", "x.py"], ["torchrun", "--nproc=4", "x.py"]),
        ("""python x.py {n} '{"a": {n}}'""", ["python", "x.py", "1", '{"a": 1}'], ["python", "x.py", "4", '{"a": 4}']),
    ],
)  # fmt: skip
def test_a_command_on_one_rank_and_on_four(command: str, one: list[str], four: list[str]) -> None:
    assert words_at(command, 1) == tuple(one)
    assert words_at(command, 4) == tuple(four)
    if "{n}" not in command:
        assert words_at(command, 4, one_per_host=True) == tuple(one)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "command is empty"),
        ("python 'train.py", "No closing quotation; write it as you would type it"),
        ("torchrun --nproc-per-node 2 train.py", "write python X ARGS, or {n} where their number stands"),
        ("bash train.sh", "does not say how many ranks it starts"),
        ("cd x && python train.py", "&& is for a shell"),
        ("python train.py > log", "> is for a shell"),
        ("python train.py 2>&1", "2>&1 is for a shell"),
        ("LR=1 python train.py", "LR=1 is for a shell, and none reads the command; write it before commprof itself"),
        ("python3.99 train.py", "there is no program python3.99"),
        ("nowhere --n {n}", "there is no program nowhere"),
        ("python", "after python stands a script"),
        ("python -m", "after python stands a script"),
        ("python -X dev train.py", "with other flags of Python's own write it with {n}"),
        ("python gone.py", "there is no script gone.py in "),
    ],
)
def test_what_cannot_be_started_on_n_ranks_is_refused_with_how_to_write_it(command: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_command(command, one_per_host=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hosts_of_a_testbed_start_a_rank_each() -> None:
    check_command(COMMAND, one_per_host=True)
    with pytest.raises(BadInput, match="launcher: testbed and slurm start it on every host"):
        check_command("accelerate launch --num_processes {n} train.py", one_per_host=True)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python a/my.train.py --x b.py", "my-train"),
        ("python -m pkg.sub.pre_train -m 3", "pre_train"),
        ("python -m torch.distributed.run --nproc-per-node {n} -m pkg.go", "go"),
        ("bash job.sh {n}", "bash"),
    ],
)
def test_a_training_is_named_after_its_script(command: str, name: str) -> None:
    assert name_of(command) == name
