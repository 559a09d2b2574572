"""What did each training step do with its time? And when was each gradient ready for the wire?

In: a training loop, ours or a user's, under DDP or alone. Out: steps.rank*.jsonl and gradients*.json.
`own_loop` is `from commprof import record_steps`. Called by scripts, by foreign and by train.
"""
