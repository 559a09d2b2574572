"""Which collective on this rank is which on the others, in which group, and what do the ranks' clocks show?

In: `RankTrace`s. Out: matched collectives with the kind of their group, when each rank came to them, and every rank's clock.
Called by all_ranks, by sets and shown, by imports and report.
"""
