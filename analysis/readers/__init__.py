"""Logs of other benchmarks -> sweeps as plain values. Each reader is pure: text in, frozen data and warnings out."""
