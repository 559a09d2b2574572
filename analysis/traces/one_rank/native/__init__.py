"""How does a trace in Perfetto's own format become the events that a JSON trace holds?

In: blocks of a `.pftrace`, protobuf messages. Out: events as JSON, which everything behind reads already.
Called by nothing beside it; the trace's reader asks it.
"""
