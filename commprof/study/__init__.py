"""The whole experiment from one file: bench, profile, predict, run for real, report; here, on the testbed or on SLURM.

In: a study's YAML, or a script's command. Out: a folder of runs and their report, continued where it was left.
`plan` says what will run, `stages` runs it, `cli` is `commprof study`.
"""
