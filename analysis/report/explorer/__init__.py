"""What the report's page needs to answer "what if" by itself: numbers, and scripts that hold the model over again.

In: runs. Out: plain data, some draws of each prediction, scripts. `model.js` is DDP's step and `sharded.js` a sharded one, each
held to Python's by a test in a browser; `drawing.js` has words and figures, `page.js` the controls.
Called by page and sections.
"""
