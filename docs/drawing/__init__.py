"""Draws docs/design.svg from the import graph, so that the picture of the house is never a picture of an earlier one.

`house` says what the graph holds, room by room; `svg` has shapes and words; `design` lays the rooms out (`make design`).
"""
