"""What a statistic's author declares and returns is checked, and the error says whose it is."""

import numpy as np
import pytest
from own_statistics import Middles, Powers, Scaler, state

import normcore as nc


def counts(cls, x, **fields):
    return cls(
        **{"count": np.zeros(x.shape[1]), "total": np.zeros(x.shape[1])}
        | {"least": np.zeros(x.shape[1]), "histogram": np.zeros((4, x.shape[1]))}
        | fields
    )


RETURNED = {
    "nothing": (lambda c, x: None, TypeError, "must return .*, not None"),
    "another": (
        lambda c, x: Middles(middle=x[0]),
        TypeError,
        "must .*, not .* type Middles",
    ),
    "few": (
        lambda c, x: counts(c, x, total=np.zeros(1)),
        ValueError,
        r"has shape \(1,\), not",
    ),
    "flat": (lambda c, x: counts(c, x, histogram=np.zeros(3)), ValueError, r"not \(4, 3\)"),
    "number": (lambda c, x: counts(c, x, count=3.0), ValueError, r"its count has shape \(\)"),
    "complex": (
        lambda cls, x: counts(cls, x, total=np.ones(3) * 1j),
        TypeError,
        "total is .* complex128",
    ),
    "text": (
        lambda cls, x: counts(cls, x, total=np.array(["a"] * 3)),
        TypeError,
        "its total is .* <U1",
    ),
    "masked": (
        lambda cls, x: counts(cls, x, total=np.ma.zeros(3)),
        TypeError,
        "its total is MaskedArray",
    ),
    "none": (lambda cls, x: counts(cls, x, total=None), TypeError, "but its total is None"),
}


def scaler_of(statistic):
    return type("Own", (Scaler,), {"statistic": statistic})()


@pytest.mark.parametrize("rows", [4, 40_000])
@pytest.mark.parametrize("returned", RETURNED)
def test_what_of_rows_returns_is_checked(returned, rows):
    function, error, message = RETURNED[returned]

    class Own(Powers):
        of_rows = classmethod(lambda cls, xp, x, weights=None: function(cls, x))

    whose = rf"{message}.*\(module '{__name__}'\)"
    with pytest.raises(error, match=rf"^Own\.of_rows .*{whose}"):
        scaler_of(Own).fit(np.ones((rows, 3)))


@pytest.mark.parametrize("returned", RETURNED)
def test_what_merge_returns_is_checked(returned, tmp_path):
    function, error, message = RETURNED[returned]

    class Own(Powers):
        def merge(self, other):
            return function(Own, np.ones((1, 3)))

    scaler = scaler_of(Own).fit(np.ones((4, 3)))
    before = state(scaler._statistic)
    for act in (
        lambda: scaler.partial_fit(np.ones((4, 3))),
        lambda: scaler_of(Own).fit(np.ones((40_000, 3))),
        lambda: scaler.merge(scaler),
    ):
        with pytest.raises(error, match=rf"^Own\.merge .*{message}.*\(module"):
            act()
    assert state(scaler._statistic) == before


@pytest.mark.parametrize("which", [0, 1])
def test_merge_cannot_write_to_what_it_merges(which):
    class Summed(Powers):
        def merge(self, other):
            total = (self, other)[which]
            total.count += (other, self)[which].count
            return total

    def state_of(rows):
        return Powers.of_rows(np, np.ones((rows, 3))).to_state()

    one, other = (Summed.from_state(state_of(n)) for n in (1, 2))
    with pytest.raises(ValueError, match=r"^Summed\.merge must not write"):
        one.merge(other)
    assert [one.count.tolist(), other.count.tolist()] == [[1.0] * 3, [2.0] * 3]


def test_errors_of_a_statistic_name_its_methods():
    class Writing(Powers):
        @classmethod
        def of_rows(cls, xp, x, weights=None):
            x[0] = 0.0

    with pytest.raises(ValueError, match=r"^Writing\.of_rows must not write"):
        scaler_of(Writing).fit(np.ones((4, 3)))

    class Failing(Powers):
        @classmethod
        def of_rows(cls, xp, x, weights=None):
            return cls(count=x.no_such)

        def merge(self, other):
            return self.no_such

    with pytest.raises(AttributeError) as caught:
        scaler_of(Failing).fit(np.ones((4, 3)))
    assert caught.value.__notes__[0].startswith("Failing.of_rows raised it")
    one = counts(Failing, np.ones((1, 3))).to_state()
    with pytest.raises(AttributeError) as caught:
        Failing.from_state(one).merge(Failing.from_state(one))
    assert caught.value.__notes__[0].startswith("Failing.merge raised it")
    assert len(caught.value.__notes__) == 1

    class Observing(Powers):
        @classmethod
        def observe(cls, backend, x, *, weights=None, skipna=False):
            return None

    with pytest.raises(TypeError, match=r"^Observing\.observe must return a normcore\.Statistic"):
        scaler_of(Observing).fit(np.ones((4, 3)))


@pytest.mark.parametrize(
    ("neutral", "message"),
    [
        ({}, "must be a dict of the fields and what each holds of no data, not {}"),
        (None, "not None"),
        ({"merge": 0.0}, "cannot name a field 'merge'"),
        ({"num channels": 0.0}, "cannot name a field 'num channels'"),
        ({"count": "0"}, "must hold real numbers: 'count' does not"),
        ({"count": 1j}, "must hold real numbers"),
    ],
)
def test_what_a_statistic_declares_is_checked(neutral, message):
    own = type("Own", (nc.Statistic,), {"neutral": neutral, "merge": lambda self, other: self})
    with pytest.raises(TypeError, match=rf"^Own\.neutral .*{message}"):
        scaler_of(own).fit(np.ones((4, 3)))


@pytest.mark.parametrize("statistic", [int, "moments", Powers.empty(3)])
def test_what_is_no_class_of_a_statistic_is_refused(statistic):
    with pytest.raises(TypeError, match=r"^Own\.statistic must be a class that derives from"):
        scaler_of(statistic).fit(np.ones((4, 3)))
