"""Try every combination, and write docs/support.md; a result that is wrong is an error.

python docs/support_matrix            writes the page
python docs/support_matrix --print    prints it
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(DOCS), str(DOCS.parent / "tests" / "helpers")]
# Programs run once, and the time to compile them is all that counts.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.update(JAX_PLATFORMS="cpu", JAX_ENABLE_X64="1")

from support_matrix.page import page  # noqa: E402 - the folder is no installed package

if __name__ == "__main__":
    text = page()
    if "--print" in sys.argv[1:]:
        print(text, end="")
    else:
        (DOCS / "support.md").write_text(text, encoding="utf-8")
