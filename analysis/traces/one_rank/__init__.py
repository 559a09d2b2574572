"""What does one rank's trace say by itself? A file of any size -> a few intervals and collectives, a thousandth of it.

In: JSON of torch.profiler, packed or not, whole or broken. Out: `RankTrace`, in nanoseconds of that rank's own clock.
stream -> events -> columns -> kineto -> rank_trace, each in bounded memory; `reduced` is how the result travels.
Called by all_ranks, sets, shown and the verb, by imports and report.
"""
