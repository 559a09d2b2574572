"""A training run as data: what was asked for, how many steps that is, and what it must compute. No torch here.

In: YAML and key=value words. Out: frozen, checked configurations; schedules; FLOPs.
Called by text and most modules of train, and by `commprof study`.
"""
