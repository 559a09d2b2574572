"""How did the whole experiment come out? A study's runs -> its cells, its table, and the wire at which N ranks begin to pay.

In: the folder of a study, or loose runs that can be put together. Out: cells, predictions per cell, tidy rows, boundaries.
`predictions` writes what is predicted before a run checks it, and never a second time.
Called by report and by `commprof study`.
"""
