"""The same watch, begun and ended by the program itself: what the callbacks of `commprof.integrations` are made of."""

from pathlib import Path

import torch
import torch.distributed as dist

from commprof.commbench.errors import BadInput
from commprof.commbench.foreign.arming import Armed
from commprof.commbench.foreign.asked import Asked
from commprof.commbench.foreign.assembled import assemble
from commprof.commbench.ranks.runtime import barrier, broadcast_text
from commprof.commbench.recorder.own_work import say
from commprof.commbench.records.rundir import new_run_path


class Recording:
    """Of one training, on every rank: `start` before its first step, `stop` after its last. It may be started again."""

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        experiment: str | None = None,
        samples_per_rank: int | None = None,
        dataset: str | None = None,
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._experiment, self._samples_per_rank, self._dataset = experiment, samples_per_rank, dataset
        self._armed: Armed | None = None
        self._path = Path()

    def start(self, device: torch.device) -> None:
        """Agree on the run's folder and watch; raise BadInput on every rank where the folder is there already."""
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        path = self._folder or new_run_path(Path("runs"), "train", world_size)
        self._path = Path(broadcast_text(str(path.absolute()), device))
        if self._path.exists():
            raise BadInput(f"{self._path} already exists; a run never overwrites another, choose a new folder")
        barrier()  # else a quick rank would make the folder under the eyes of a slow one
        asked = Asked(
            folder=str(self._path),
            notes=str(self._path),
            experiment=self._experiment,
            samples_per_rank=self._samples_per_rank,
            dataset=self._dataset,
        )
        self._armed = Armed(asked)
        self._armed.arm()

    def stop(self, failure: str | None = None) -> None:
        """End the recording and put the run together; `failure` says what ended the training, which then waits for no rank."""
        if self._armed is None:
            return
        self._armed.disarm(failed=failure is not None)
        self._armed = None
        if failure is None:
            barrier()
        if not dist.is_initialized() or dist.get_rank() == 0:
            info = assemble(self._path, failure)
            unseen = () if info is None else info.unseen
            for line in (*unseen, f"{'nothing was recorded into' if info is None else 'the steps are in'} {self._path}"):
                say(line)
