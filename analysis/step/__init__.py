"""How long is the step at N? A profile and a wire -> a simulated step with an interval.

In: runs. `gather` turns them into `StepInputs` per world size, once; everything after that is pure and sees no run or file.
Out: `PredictionSet` (predictions.json). `estimate` is the model, `ddp` its schedule, `predict` what is told of it.
`assumptions` compares a prediction with the run that checked it. Called by strategies,
advice, study and report.
"""
