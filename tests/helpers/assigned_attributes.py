"""Scalers whose fitted attributes tests assign, and what of them scikit-learn's transform reads."""

import numpy as np

import normcore as nc

RNG = np.random.default_rng(17)
X = RNG.normal([3.0, -20.0, 1e4], [1.0, 5.0, 1e3], (60, 3))
Z = RNG.normal([3.0, -20.0, 1e4], [1.0, 5.0, 1e3], (7, 3))

#: What scikit-learn's transform reads, of the classes that it has too.
READ = {
    "StandardScaler": ("mean_", "scale_"),
    "MinMaxScaler": ("min_", "scale_"),
    "RobustScaler": ("center_", "scale_"),
    "MaxAbsScaler": ("scale_",),
}
CASES = [(name, attribute) for name, read in READ.items() for attribute in read]


def scaler_of(name, **params):
    return getattr(nc, name)(**params)


def close(one, other, digits=1e-12):
    np.testing.assert_allclose(np.asarray(one), other, rtol=digits, atol=digits)


def assign(scaler, attribute, new):
    setattr(scaler, attribute, new)
    return scaler
