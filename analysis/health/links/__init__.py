"""Are the links between ranks as they should be? What they carried, beside what such a link can, and which was taken.

In: the evidence of one run, and what somebody says lies between its ranks. Out: `Verdict`s.
"""
