"""What does each Python of a recorded command do first? A folder for PYTHONPATH: nothing else may be in it."""
