"""A notebook's lines; mypy fails here where an answer has lost its type, or a wrong argument is no longer one."""

from typing import assert_type

import pandas as pd
from matplotlib.figure import Figure

import commprof as cp

runs = cp.load("runs/*")
assert_type(runs.steps, pd.DataFrame)
assert_type(cp.predict(runs, n=[2, 4])[2].step_s, float)
assert_type(cp.check(runs).ok, bool)
assert_type(cp.trace("x").plot(), Figure)
cp.predict(runs, m=2)  # type: ignore[call-arg]
