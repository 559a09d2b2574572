"""Run by every rank: each collective in each data type, reduction and placement, verified at odd sizes.

Prints one line per combination on rank 0: name, wrong elements as the collectives are, and again with rank 1 sending garbage.
"""

import os

import torch
import torch.distributed as dist

from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.sweep import count_wrong
from commprof.commbench.errors import BadInput
from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS, REDUCTIONS, check_operation

CPU = torch.device("cpu")


def main() -> None:
    dist.init_process_group("gloo")
    for op, operation in OPERATIONS.items():
        for dtype in DATA_TYPES:
            for reduction in REDUCTIONS if operation.reduces else ("sum",):
                try:
                    check_operation(op, dtype, reduction, "gloo")
                except BadInput:
                    continue
                for in_place in (False, True)[: 1 + operation.in_place]:
                    verify(op, dtype, reduction, in_place)
    dist.destroy_process_group()


def verify(op: str, dtype: str, reduction: str, in_place: bool) -> None:
    message_bytes = 0 if op == "barrier" else 3000 + 8 * 131
    collective = Collective(op, dtype, reduction, 1, message_bytes, in_place, CPU)
    collective.allocate(Arena(CPU), rotate_bytes=20_000)
    clean = count_wrong(collective, CPU)
    sent = type(collective.payload).sent
    if dist.get_rank() == 1:
        type(collective.payload).sent = lambda payload, rank: sent(payload, rank).flip(0) * 0 + 127  # type: ignore[method-assign]
    spoilt = count_wrong(collective, CPU)
    type(collective.payload).sent = sent  # type: ignore[method-assign]
    if os.environ["RANK"] == "0":
        print(op, dtype, reduction, "in" if in_place else "out", clean, spoilt, flush=True)


if __name__ == "__main__":
    main()
