"""Warnings point at the line that called normcore, whether it is compiled or not."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc

pd = pytest.importorskip("pandas")


@pytest.mark.parametrize("cls", [nc.StandardScaler, nc.RobustScaler, nc.Normalizer])
@pytest.mark.parametrize("named_in_fit", [True, False])
def test_feature_names_that_one_side_has(cls, named_in_fit):
    X = np.arange(1.0, 9.0).reshape(4, 2)
    frame = pd.DataFrame(X, columns=["a", "b"])
    scaler = cls().fit(frame if named_in_fit else X)
    other = X if named_in_fit else frame
    for call in (scaler.transform, lambda values: scaler.transform(values)):
        with pytest.warns(UserWarning, match="feature names") as caught:
            call(other)
        assert [each.filename for each in caught] == [__file__]


def test_warnings_of_plugins():
    X = np.arange(1.0, 9.0).reshape(4, 2)
    power = nc.PowerTransformer(method="box-cox", standardize=False).fit(X**-2.0)
    for call, words in (
        (lambda: nc.QuantileTransformer().fit(X), "n_quantiles"),
        (lambda: power.inverse_transform(X * 1e6), "NaN"),
    ):
        with pytest.warns(UserWarning, match=words) as caught:
            call()
        assert [each.filename for each in caught] == [__file__]
