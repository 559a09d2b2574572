"""What goes to disk, and how it is read back: types, the run folder, and what a collective moves.

In: frozen dataclasses. Out: append-only JSON Lines and atomic JSON documents; BadInput for anything malformed.
No torch here. Everybody calls it.
"""
