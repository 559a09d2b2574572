"""How does what others measured become a run? `commprof import`, on top of readers and traces.

In: logs of other benchmarks, traces of a DDP run's ranks, a preset's name. Out: run folders that every verb takes.
Called by the door alone.
"""
