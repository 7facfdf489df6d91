"""Scaling to [-1, 1]."""

import normcore as nc


class UnitRangeScaler(nc.AffineScaler):
    """Map the smallest value of each feature to -1 and the largest to 1."""

    statistic = nc.Extrema

    def affine(self, extrema):
        """Return the map from the middle of the range and half its width."""
        self.center_ = extrema.min + (extrema.max - extrema.min) / 2
        return nc.Affine(center=self.center_, scale=(extrema.max - extrema.min) / 2)


def unit_range_scale(X):
    """Scale the columns of X to [-1, 1]."""
    return UnitRangeScaler().fit_transform(X)
