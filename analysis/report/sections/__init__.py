"""What does a report say of each matter? One module a section; None where the data hold nothing for it.

In: the material of numbers. Out: sections of a page, and in `build` the whole report of some runs.
Called by study, sides, paper, figure_set and the verb.
"""
