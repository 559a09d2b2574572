"""When does each unit of a sharded model gather, compute and reduce?

In: a model that fully_shard or FullyShardedDataParallel cut into units, and a clock. Out: units.json, a step from mark to mark.
`marks` is what both have in common; each has a module for how its units and collectives are seen. Called by recorder and
foreign, and by train for its own memory.
"""
