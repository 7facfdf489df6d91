"""An affine scaler: a statistic's name, and the coefficients that follow from it."""

import numpy as np

import normcore as nc


class RootMeanSquareScaler(nc.WeightedScaler, nc.AffineScaler):
    """Divide each feature by its root mean square."""

    statistic = nc.Moments
    keeps_zero = True

    def affine(self, moments):
        return nc.Affine(scale=np.hypot(moments.mean, moments.std()))
