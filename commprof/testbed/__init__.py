"""A cluster whose wire is known: network namespaces on a bridge, each line with a rate and a delay.

In: a number of hosts and a wire. Out: ranks started one a host, and nothing left of it afterwards.
`cli` is `commprof testbed`. Called by study.
"""
