"""Trainings as people write them, which share nothing with commprof and do not know of it: what the foreign grid records.

Each is a script: `python gpt.py` trains on one rank, with torch's env:// variables under DDP over gloo. `--mode` says how
gradients are sent: plain, cap5 (buckets of 5 MiB), accumulate (two micro-batches), fp16 (a hook) or static (static_graph).
"""
