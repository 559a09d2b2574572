"""What machine is this? Its GPUs, links, interfaces and cores, once and during a run.

In: NVML, /sys, /proc. Out: `HostInfo` (environment.json) and samples (telemetry.jsonl).
`cli` is `commprof env`.
Called by ranks, bench, links, recorder, foreign, train and the roof; analysis reads the types of `facts` and `wire`.
"""
