"""What does overlap cost? How much computation and communication slow each other when both run at once.

In: message sizes. Out: contention.jsonl.
`cli` is `commprof contention`. Called by the door.
"""
