"""Where did each microsecond of the step go? Traces of torch.profiler -> budgets, collectives, stragglers.

In: Chrome traces (Kineto) of some ranks, or what ranks reduced them to. Out: one analysis value, tables, a merged timeline.
`one_rank` reads a file into a few intervals, `all_ranks` sets ranks beside each other, `shown` puts that into words and files.
`cli` is `commprof trace`. Called by imports and report.
"""
