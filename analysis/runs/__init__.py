"""What was measured? Run folders -> `Run`s in memory, and the refusal to mix what cannot be mixed.

In: paths of run folders or of a study. Out: frozen `Run`s with their records, the interval that every room shares.
`workers` does the same work on many files, one process a core.
The ground of analysis: every room may call it, and it calls none.
"""
