"""Measure the wire: collectives, links and the machine they run on. Stands alone.

In: the command line, a process group, the host. Out: run folders of raw records; nothing is concluded here.
bench, links, contention, recorder -> ranks -> machine -> records -> display: each imports only what stands after it.
train, analysis and the door may call all of it.
"""
