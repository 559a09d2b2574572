"""Is every collective right in every data type, reduction and placement, and does the check see a rank that sends garbage?"""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from unittest import mock

import torch
import torch.distributed as dist

from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.payload import Payload
from commprof.commbench.bench.sweep import count_wrong
from commprof.commbench.errors import BadInput
from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS, REDUCTIONS, check_operation

_ELEMENTS = 1012


def combinations(backend: str) -> Iterator[tuple[str, str, str, bool]]:
    for op, operation in OPERATIONS.items():
        for dtype in DATA_TYPES:
            for reduction in REDUCTIONS if operation.reduces else ("sum",):
                try:
                    check_operation(op, dtype, reduction, backend)
                except BadInput:
                    continue
                for in_place in (False, True)[: 1 + operation.in_place]:
                    yield op, dtype, reduction, in_place


def garbage(payload: Payload, rank: int) -> torch.Tensor:
    """Stand in for what a rank ought to send."""
    return torch.full((payload.send_count,), 127).to(payload.dtype)


def main(kind: str) -> int:
    backend, device = ("nccl", torch.device("cuda", 0)) if kind == "cuda" else ("gloo", torch.device("cpu"))
    dist.init_process_group(backend, timeout=timedelta(seconds=60), device_id=device if kind == "cuda" else None)
    done, wrong, blind = 0, [], []
    for op, dtype, reduction, in_place in combinations(backend):
        size = 0 if op == "barrier" else _ELEMENTS * DATA_TYPES[dtype].num_bytes
        collective = Collective(op, dtype, reduction, 1, size, in_place, device)
        collective.allocate(Arena(device), 20_000)
        done += 1
        if count_wrong(collective, device):
            wrong.append((op, dtype, reduction, in_place))
        sent = mock.patch.object(Payload, "sent", garbage) if dist.get_rank() == 1 else mock.MagicMock()
        with sent:
            if count_wrong(collective, device) == 0 and op != "barrier":
                blind.append((op, dtype, reduction, in_place))
    sys.stdout.write(
        f"rank {dist.get_rank()}: {done} combinations, wrong {wrong or 'none'}, blind to garbage {blind or 'none'}\n"
    )
    sys.stdout.flush()
    dist.destroy_process_group()
    return int(bool(wrong or blind))


if __name__ == "__main__":
    code = main(sys.argv[1])
    os._exit(code)  # gloo's threads may meet an interpreter that is taken down
