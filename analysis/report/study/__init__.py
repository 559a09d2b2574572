"""A study's pages: one cell's report each, and for a grid of models and wires one page that leads to them.

In: a study's folder. Out: report.html of the cells and of the whole, study.csv.
Called by paper, figure_set, the verb and `commprof study`.
"""
