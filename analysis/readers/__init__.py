"""What did others measure? Logs of other benchmarks -> sweeps as plain values -> runs of ours.

In: the text of a log; a published curve by its name. Out: frozen sweeps, their warnings, and records as if measured here.
Each reader is pure: text in, data out. `dialect` tells whose log it is, `as_run` makes a run folder of it.
Called by wire, advice and health for published curves, by scaling to decode tables, by imports for everything.
"""
