"""What every job costs, beside what memory allows and what peers take: ``python -m benchmarks``.

One table of jobs (`jobs`) drives the timing and the smoke test; `python -m benchmarks --help`
says how to run it. `benchmarks/gpu` is apart: it needs a device.
"""

import sys
from pathlib import Path

# The tree stands last on the path, so that an installed normcore, which is compiled, comes first.
_ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [*(each for each in sys.path if Path(each or ".").resolve() != _ROOT), str(_ROOT)]
