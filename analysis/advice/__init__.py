"""What should change? Settings and hardware that would save time, from where on N ranks pay, and what that costs.

In: runs, or what `step` has gathered of them. Out: `Advice`; and predictions together with what to change (`predict`).
Every answer asks the same model with a changed setting, on the same draws.
`cli` is `commprof advise`, `predict_cli` is `commprof predict`. Called by study and report.
"""
