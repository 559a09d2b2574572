"""How does a person see it? Everything above as a page, a paper, plain text or figures.

In: runs or a study. Out: report.html, report.tex and .pdf, text, Markdown, figures, verification.json.
numbers -> figures -> page -> sections -> study, sides -> paper, figure_set: each imports only what stands before it.
`cli` is `commprof report`, `plots_cli` is `commprof plots`. Called by the door and `commprof study` alone.
"""
