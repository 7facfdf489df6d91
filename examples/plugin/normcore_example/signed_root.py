"""A pointwise scaler: a function of each value, and its inverse."""

import normcore as nc


class SignedRootScaler(nc.PointwiseScaler):
    """Take the square root of each magnitude, and leave the sign."""

    def forward(self, xp, x):
        return xp.sign(x) * xp.sqrt(xp.abs(x))

    def inverse(self, xp, x):
        return x * xp.abs(x)
