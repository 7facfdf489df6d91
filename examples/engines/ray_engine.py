"""Ray as an engine, as anyone would add one: scalers then fit and scale datasets of Ray."""

import pickle

import ray.data
from ray.data.aggregate import AggregateFnV2

import normcore as nc
from normcore.engines import Description


class Observed(AggregateFnV2):
    """What a task finds in a dataset. States are pickled, as Ray keeps them in tables."""

    def __init__(self, task):
        self._task = task
        super().__init__("observed", lambda: pickle.dumps(None), on=None, ignore_nulls=False)

    def aggregate_block(self, block):
        return pickle.dumps(self._task.partial(block))

    def combine(self, current_accumulator, new):
        states = [pickle.loads(each) for each in (current_accumulator, new)]
        return pickle.dumps(self._task.merge([each for each in states if each is not None]))


class RayEngine(nc.Engine):
    """Runs tasks where the blocks of datasets are."""

    @classmethod
    def takes(cls, X):
        return isinstance(X, ray.data.Dataset)

    def describe(self, X, owner):
        names = X.columns()
        return Description(names, len(names), None, "Ray")

    def partial(self, task, X, weights=None):
        if weights is not None:
            raise TypeError("sample_weight is for arrays and for Dask")
        return X, Observed(task)

    def merge(self, task, partials):
        return partials  # Ray combines them

    def finalize(self, task, merged):
        X, observed = merged
        return [pickle.loads(X.aggregate(observed)["observed"])]

    def map(self, X, scaled, container):
        return X.map_batches(scaled.frame, batch_format="pandas")


@nc.hookimpl
def normcore_register(registry):
    """Register the engine; an entry point of the group ``normcore`` names this module."""
    registry.engine("ray", f"{__name__}:RayEngine", libraries=("ray",))
