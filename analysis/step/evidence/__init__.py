"""What do the runs show: which of them agree, how fast the machine went, who was last, what sending cost?

In: runs. Out: pools of steps that are drawn from, gradients of the last rank, contention, the machine's pace and its drift.
Called by step, strategies, study and report.
"""
