"""What do a few throughputs say of other N? Laws over the number of ranks, with intervals, without any profile.

In: seconds or throughputs by number of ranks. Out: speedups, the laws that describe them, the same at other N.
`speedup` has the definitions that every room uses (weak and strong scaling, Karp-Flatt, Amdahl).
`cli` is `commprof extrapolate`. Called by wire, step, advice, study and report.
"""
