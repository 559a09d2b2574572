"""Runs that are not one study's, side by side: what differs in set-up first, then step against step, wire against wire.

In: run folders, the first of which is the side that others are measured against. Out: a page.
Called by paper and the verb.
"""
