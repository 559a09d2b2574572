"""Which kernels communicate, going by their names? A table of libraries' kernels, a user's own rules before it.

In: a kernel's name as a trace has it. Out: whether it communicates, and which collective it is.
Called by native, work and the rest of one_rank, by all_ranks and sets, and by the verb.
"""
