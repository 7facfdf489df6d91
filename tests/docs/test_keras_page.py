"""The examples of docs/keras.md, run in a process of their own: Keras has one backend in each."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from processes import printed


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_examples(backend):
    if find_spec("keras") is None or find_spec(backend) is None:  # no backend is chosen here
        pytest.skip(f"needs Keras and {backend}")
    code = "from page_examples import check_examples\ncheck_examples('keras.md')\nprint('done')"
    assert printed(code, KERAS_BACKEND=backend) == "done"
