"""What does each program's log look like? One reader a format, and what formats have in common.

In: the text of a log. Out: frozen sweeps (`foreign`), as the log has them; nothing guessed, nothing written.
Called by dialect, which tells whose log it is.
"""
