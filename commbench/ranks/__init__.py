"""How do ranks start, meet, agree, stop and end? A job's processes, and the run that they write together.

In: the environment of our own launcher (`keeper`), torchrun or SLURM. Out: a process group, a session on one run folder, words
about who is missing.
`arguments` are the flags that measuring verbs share.
Called by bench, links, contention, recorder, foreign and train; the roof calls `stopping`.
"""
