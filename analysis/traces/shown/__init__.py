"""How is an analysis of traces shown? Text of 80 columns, JSON, CSV, and one timeline of all ranks for Perfetto.

In: a trace analysis or a comparison of two. Out: text, documents, files.
Called by the verb and by report.
"""
