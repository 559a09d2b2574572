"""What a machine with one GPU is asked first: the figures behind every sentence that says "never run" until then."""
