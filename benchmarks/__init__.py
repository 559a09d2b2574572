"""Measurements of commprof itself. Run by make targets; results lie in docs/results/."""
