"""What `import commprof as cp` offers to scripts and notebooks: runs as tables, and the verbs' answers as values.

In: paths, globs, runs, a DataFrame. Out: values with `.to_frame()` (units in the columns' names), `.plot()` and text.
Each function calls what its verb calls; nothing is computed here, nothing is written. Errors are `commprof.CommprofError`.
pandas and matplotlib are imported when a table or a figure is asked for, and torch never.
"""
