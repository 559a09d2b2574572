"""Measure the wire: collectives, links and the machine they run on. Stands alone."""
