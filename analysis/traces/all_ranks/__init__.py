"""What do the traces of some ranks say together? Matched collectives, aligned clocks, budgets, who was late.

In: `RankTrace`s. Out: `TraceAnalysis`: findings, a budget per rank and step, collectives, buckets, stragglers; no text.
`job` puts it together. Called by sets, shown and the verb, by imports, report and commprof.api.
"""
