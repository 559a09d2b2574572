"""What does a step of DeepSpeed's ZeRO stages take on N ranks, and what memory, from that engine's own step on one?

In: a run whose units.json tells of an engine, and benches. Out: the inputs, the program and the memory that a strategy's answer
is made of. Called by strategies alone.
"""
