"""What do the runs show beside their steps: who was last, what sending cost, at what pace?

In: runs. Out: gradients of the last rank, contention, the machine's pace. Called by step.
"""
