"""What do the traces of some ranks say together? Matched collectives, aligned clocks, budgets, who was late.

In: `RankTrace`s. Out: `TraceAnalysis`: findings, a budget per rank and step, collectives, buckets, stragglers; no text.
`job` puts it together, `comparison` holds one set of traces against another.
Called by shown and the verb, by imports and report.
"""
