"""Is this normal? A run, its machine and its wire against rules, thresholds and an earlier run.

In: runs with what they recorded of their hosts. Out: `Verdict`s, each with what was measured and what was allowed.
`evidence` is all that the rules may look at; a rule that lacks it says that it cannot judge.
`cli` is `commprof check`. Called by report.
"""
