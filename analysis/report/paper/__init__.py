"""A report as a paper: LaTeX that pdflatex takes, with its figures as PDF.

In: runs, a study, or runs side by side. Out: report.tex, figures, and report.pdf where pdflatex is installed.
Text from files is printed as it is and never obeyed by TeX.
Called by the verb.
"""
