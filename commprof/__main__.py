"""`python -m commprof`: the same door as the console script, and as safe.

`-m` puts the working directory first on the path of imports, where a user's own files would stand before Python's modules.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
    from commprof.cli import enter

    enter()
