"""The reference workload: a transformer text classifier under DDP, recorded step by step.

In: a YAML file and key=value words. Out: a run folder as the recorder writes it, checkpoints, traces.
config -> text -> model and trainee -> step -> loop -> cli. Called by the door and by study alone.
"""
