"""How fast is each link by itself? Copies to, from and between GPUs, messages between pairs of ranks.

In: the ranks' devices. Out: links.jsonl of what is inside hosts, pairs.jsonl of what is between them, and both in text.
`cli` is `commprof links`. Called by the door; the report calls `table`.
"""
