"""DDP, FSDP, HSDP or ZeRO-2? The step and the memory of a rank under each, from one rank's profile and a wire.

In: runs, a plain one for DDP and a sharded one (units.json) or the plain one again for the others, and benches of what each
of them sends.
Out: a `StrategyAnswer` each, those that fit, the fastest. `schedule` is a sharded step as operations played one after the
other, `program` makes them of a recorded step. Called by study, advice and report.
"""
