"""A report as a value, and that value as one HTML page, plain text or Markdown.

In: sections with figures, tables and sentences. Out: text; no network, no script but the page's own.
Called by sections, study, sides, paper, figure_set and the verb.
"""
