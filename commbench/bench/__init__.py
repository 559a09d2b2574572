"""How long does a collective take at each size? nccl-tests' question, on any backend.

In: a plan of sizes, modes and budget. Out: collectives.jsonl with every sample, and nccl-tests' table.
`cli` is `commprof bench`. Called by the door; analysis calls `ceiling`.
"""
