"""Which traces belong together, and how do two sets of them differ?

In: files of traces, or two analyses. Out: the files of each run with what does not belong to it, analyses of our own runs, a
comparison. Called by shown and the verb, by report and commprof.api.
"""
