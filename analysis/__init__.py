"""From measured files to fits, predictions and reports. Never measures, never imports torch.

In: run folders, logs and traces of other programs, tables of throughputs.
Out: what a collective costs, where a step's time went, the step at N, what to change, whether a run is normal, a report.
Each folder is a room with one question; a room imports only from rooms below it (pyproject.toml, import-linter).
"""
