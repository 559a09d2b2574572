"""A real SLURM of two nodes on this machine: a controller and two slurmd with ports and state of their own, all in one folder.

The nodes are called n1 and n2, names that nothing resolves; SLURM reaches both at 127.0.0.1. Nothing of the system's own
configuration is read or changed.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from commprof.commbench.ranks.stopping import die_with_parent

_DAEMONS = ("munged", "slurmctld", "slurmd")
_CLIENTS = ("sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")
_START_S = 90.0
_STOP_S = 20.0
_NUM_NODES = 2


def why_not() -> str | None:
    """Return what a cluster on this machine lacks."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    missing = [name for name in (*_DAEMONS, *_CLIENTS) if shutil.which(name, path=path) is None]
    if missing:
        return f"no {missing[0]} here; apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "slurmd starts jobs for others, so it must be root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`folder` holds configuration, state and logs; `environ` is that of commands, no outer job's variables in it."""

    folder: Path
    environ: dict[str, str]

    def run(
        self, *words: str | Path, cwd: Path, deadline_s: float = 240.0, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command, its standard error with its output."""
        return subprocess.run(
            [*map(str, words)],
            cwd=cwd,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=deadline_s,
        )

    def ask(self, *words: str) -> str:
        done = self.run(*words, cwd=self.folder, deadline_s=60.0)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def state_of(self, job: str) -> str:
        """Return PENDING, RUNNING, COMPLETED and so on."""
        return self.ask("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]

    def processes_of(self, job: str, *settings: str) -> Sequence[int]:
        """Return the live processes that a job has started with these variables (`NAME=value`), SLURM's own not counted."""
        wanted = {word.encode() for word in (f"SLURM_JOB_ID={job}", *settings)}
        return [pid for pid, environ in self._ours() if wanted.issubset(environ)]

    def logs(self) -> str:
        """Return the last lines of every log."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))

    def clear(self) -> None:
        """End all jobs and wait for the nodes to be free again."""
        self.ask("scancel", "--user=root")
        self.wait_until(
            "all nodes to be idle", lambda: self.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * _NUM_NODES
        )

    def wait_until(self, what: str, done: Callable[[], bool], within_s: float = 180.0) -> None:
        """Look until it is done; a sixth of the time at most, for the jobs need the cores that scontrol takes."""
        begin_s = look_s = time.monotonic()
        while not done():
            now_s = time.monotonic()
            assert now_s < begin_s + within_s, f"waited {within_s:g} s for {what}\n{self.logs()}"
            time.sleep(max(0.1, 5 * (now_s - look_s)))
            look_s = time.monotonic()

    def kill_all(self) -> None:
        for pid, _ in self._ours():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _ours(self) -> Iterator[tuple[int, list[bytes]]]:
        conf = f"SLURM_CONF={self.environ['SLURM_CONF']}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environ = (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue  # it ended while we looked
                if conf in environ:
                    yield int(entry.name), environ


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster whose state is below `folder`, yield it with both nodes idle, and leave no process behind."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "MASTER_"))}
    path = os.pathsep.join((outer.get("PATH", ""), "/usr/sbin"))
    own = Cluster(folder=folder, environ={**outer, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")})
    _configure(folder)
    with ExitStack() as daemons:
        daemons.callback(own.kill_all)
        munge = ("munged", "--foreground", "--force", *(f"--{name}-file={folder / name}" for name in ("key", "pid", "seed")))
        daemons.enter_context(
            _daemon(own, "munge", *munge, f"--log-file={folder / 'munged.log'}", f"--socket={folder / 'munge'}")
        )
        own.wait_until("munged", (folder / "munge").exists, _START_S)
        daemons.enter_context(_daemon(own, "controller", "slurmctld", "-D"))
        for number in range(1, _NUM_NODES + 1):
            daemons.enter_context(_daemon(own, f"node{number}", "slurmd", "-D", "-N", f"n{number}"))
        own.wait_until("the controller", lambda: own.run("scontrol", "ping", cwd=folder).returncode == 0, _START_S)
        own.clear()
        yield own
        own.clear()


@contextmanager
def _daemon(own: Cluster, name: str, *words: str) -> Iterator[None]:
    with (own.folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            words,
            cwd=own.folder,
            env=own.environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  one system call: killed tests must not leave daemons behind
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _configure(folder: Path) -> None:
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o600)
    (folder / "state").mkdir()
    host = socket.gethostname().partition(".")[0]
    controller, *nodes = _free_ports(1 + _NUM_NODES)
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={folder / 'munge'}",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"StateSaveLocation={folder / 'state'}",
        f"SlurmdSpoolDir={folder / '%n'}",
        f"SlurmctldPidFile={folder / 'controller.pid'}",
        f"SlurmdPidFile={folder / '%n.pid'}",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SchedulerParameters=sched_interval=1",  # s; 60 is the default, and a requeued job would wait for it
        "SwitchType=switch/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "PlugStackConfig=/dev/null",
        "ReturnToService=2",
        *(f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1" for n, port in enumerate(nodes, start=1)),
        "PartitionName=main Nodes=ALL Default=YES",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has now, all different: they are held until the last one is known."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
