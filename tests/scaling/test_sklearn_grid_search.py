"""A package's own use: a grid search over a pipeline gives the scores that scikit-learn's gives.

Each scaler that the two share is swapped for ours, alone in a pipeline and inside of a column
transformer, beside one of another kind.
"""

import numpy as np
import pytest
from releases import skip_before

import normcore as nc

pytest.importorskip("sklearn")

from sklearn import datasets, preprocessing
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

TABLES = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
GRIDS = {
    "StandardScaler": {"with_mean": [True, False], "with_std": [True, False]},
    "MinMaxScaler": {"feature_range": [(0, 1), (-2, 3)], "clip": [True, False]},
    "MaxAbsScaler": {"clip": [True, False]},
    "RobustScaler": {"quantile_range": [(25, 75), (5, 95)], "unit_variance": [True, False]},
    "Normalizer": {"norm": ["l1", "l2", "max"]},
}
CLIPPING = skip_before("scikit-learn", "1.8", "has MaxAbsScaler(clip=)")
# scikit-learn says so of everyone who does not import it.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not inherit from:UserWarning")


def searched(module, name, table, as_frame):
    """Return the scores of a search, and predictions of what it found."""
    data = TABLES[table](as_frame=as_frame)
    X, y = data.data, data.target
    half = X.shape[1] // 2
    other = "MinMaxScaler" if name == "StandardScaler" else "StandardScaler"
    columns = ColumnTransformer(
        [
            ("scaler", getattr(module, name)(), slice(0, half)),
            ("other", getattr(module, other)(), slice(half, X.shape[1] - 1)),
        ],
        remainder="passthrough",
    )
    model = Ridge() if table == "diabetes" else KNeighborsClassifier()
    grid = {f"columns__scaler__{key}": values for key, values in GRIDS[name].items()}
    grid["model__alpha" if table == "diabetes" else "model__n_neighbors"] = [1, 5]
    search = GridSearchCV(Pipeline([("columns", columns), ("model", model)]), grid, cv=3)
    search.fit(X, y)
    return search, search.predict(X)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[CLIPPING] * (name == "MaxAbsScaler")) for name in GRIDS]
)
@pytest.mark.parametrize("as_frame", [False, True])
def test_scores_are_scikit_learns(name, table, as_frame):
    if as_frame:
        pytest.importorskip("pandas")
    ours, my_predictions = searched(nc, name, table, as_frame)
    theirs, their_predictions = searched(preprocessing, name, table, as_frame)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-9)
    scores = [key for key in theirs.cv_results_ if key.endswith("_score") and "rank" not in key]
    assert len(scores) > 4
    for key in scores:
        np.testing.assert_allclose(ours.cv_results_[key], theirs.cv_results_[key], rtol=1e-9)
    np.testing.assert_allclose(my_predictions, their_predictions, rtol=1e-9)


def test_every_shared_scaler_is_known_and_searched():
    from normcore import registration

    scalers = {
        row.target.partition(":")[2]
        for row in registration.registrations()
        if row.kind == "scaler" and row.distribution == "normcore-arrays"
    }
    # Those two are compared with scikit-learn's, value by value, in tests of their own.
    compared_elsewhere = {"QuantileTransformer", "PowerTransformer"}
    assert scalers & set(preprocessing.__all__) == GRIDS.keys() | compared_elsewhere
