"""What did a rank's GPU do besides communicating, and for whom? Kernels by kind and by module, and how far ahead the host was.

In: columns of events, and which are kernels, of which step. Out: sums by step and by name, in nanoseconds.
Called by rank_trace, and by those who show what it says: all_ranks and sets.
"""
