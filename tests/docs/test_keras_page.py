"""The examples of docs/keras.md, run in a process of their own: Keras has one backend in each."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from processes import run_python


def test_examples():
    if find_spec("keras") is None or find_spec("torch") is None:  # no backend is chosen here
        pytest.skip("needs Keras and PyTorch")
    code = "from page_examples import blocks, check_examples\n"
    code += "check_examples('keras.md')\n"
    code += "names = {}\nexec(blocks('docs/keras.md')[0], names)\n"
    code += "assert names['model'].build((None, 3)) is None and len(names['model'].weights) == 11\n"
    run_python("-c", code, KERAS_BACKEND="torch")
