"""How do traces that are not laid out as Kineto's become events as Kineto's?

In: blocks of Perfetto's `.pftrace`, protobuf messages; events of Ascend's layers. Out: what Kineto would have written.
Called by nothing beside it; the trace's reader asks it.
"""
