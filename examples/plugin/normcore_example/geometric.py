"""A scaler with a statistic of its own: what is kept, how it comes from values, how it merges."""

import numpy as np

import normcore as nc


class LogMagnitudes(nc.Statistic):
    """Count and mean of the logarithms of magnitudes; zeros and NaN are left out."""

    name = "log_magnitudes"
    neutral = {"count": 0.0, "mean": 0.0}

    @classmethod
    def of_rows(cls, xp, x):
        seen = xp.abs(x) > 0
        count = xp.sum(xp.astype(seen, xp.float64), axis=0)
        logs = xp.log(xp.where(seen, xp.abs(x), xp.ones_like(x)))
        return cls(count=count, mean=xp.sum(logs, axis=0) / xp.where(count > 0, count, 1.0))

    def merge(self, other):
        count = self.count + other.count
        share = other.count / np.maximum(count, 1.0)
        return LogMagnitudes(count=count, mean=self.mean + (other.mean - self.mean) * share)


class GeometricScaler(nc.AffineScaler):
    """Divide each feature by the geometric mean of its magnitudes."""

    statistic = LogMagnitudes
    keeps_zero = True

    def affine(self, logs):
        self.geometric_mean_ = np.where(logs.count > 0, np.exp(logs.mean), 1.0)
        return nc.Affine(scale=self.geometric_mean_)
