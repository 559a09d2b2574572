"""Numbers -> matplotlib Figures, nothing else. Every axis has its unit; no text that came from a file is drawn.

In: the values of numbers. Out: figures that serve light and dark, and files of them for papers and slides.
`canvas` is the style they share. Called by page, sections, study, sides, paper and figure_set.
"""
