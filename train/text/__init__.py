"""What does the classifier read? Articles -> rows of word numbers -> each rank's batches.

In: AG News' CSV files, fetched where that is wanted, or made-up text of their shape. Out: tensors a step.
Called by trainee, step, evaluation, checkpoint, loop and cli, and by `commprof study`.
"""
