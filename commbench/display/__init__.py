"""How is a result seen? Verbs hand in words and tables as values; a terminal gets them by rich, a pipe as plain text.

Imports nothing above units. rich is imported only where something is drawn on a terminal: `tables`, `live_line`.
"""
