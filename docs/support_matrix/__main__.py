"""Try every combination, and write docs/support.md; a result that is wrong is an error.

python docs/support_matrix            writes the page
python docs/support_matrix --print    prints it
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support_matrix.page import page  # noqa: E402 - the folder is no installed package

if __name__ == "__main__":
    text = page()
    if "--print" in sys.argv[1:]:
        print(text, end="")
    else:
        (HERE.parent / "support.md").write_text(text, encoding="utf-8")
