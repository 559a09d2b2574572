"""The reference workload: a transformer text classifier under DDP."""
