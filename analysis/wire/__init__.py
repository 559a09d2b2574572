"""What does a message cost? Benches -> the time of a collective as a function of its bytes, per world size.

In: runs with collectives.jsonl. Out: `CostModel`s (fit.json): latency, bandwidth, the measured curve, and whether to trust it.
`other_world_sizes` carries a curve to an N that was not benched, `across_nodes` over nodes; `ring_order` finds the order of
ranks in which a ring is fastest; `ceiling` says what the links could carry at best.
`cli` is `commprof fit`. Called by health, traces, step, strategies, advice, study and report.
"""
