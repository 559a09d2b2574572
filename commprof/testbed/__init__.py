"""A cluster whose wire is known: network namespaces on a bridge, each line with a rate, a delay and a loss.

In: hosts, ranks on each and a wire. Out: ranks started there, and nothing left of it afterwards.
`cli` is `commprof testbed`. Called by study.
"""
