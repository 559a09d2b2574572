"""How fast is each link by itself? Copies to, from and between GPUs, messages between pairs of ranks.

In: the ranks' devices. Out: links.jsonl, and matrices in text.
`cli` is `commprof links`. Called by the door; the report calls `table`.
"""
