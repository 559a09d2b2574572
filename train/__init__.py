"""The reference workload: a transformer text classifier under DDP, and the recorder of its steps."""
