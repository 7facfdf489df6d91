"""Arrays of one call that lie on the host and on the device: brought together, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import DeviceArray
from cuda_host.comparing import on_host

import normcore as nc

pytestmark = build.needs_compiler
F = nc.functional


def to_host(array):
    return on_host(array) if isinstance(array, DeviceArray) else array


FORWARD_AND_BACKWARD = {
    "batch": (F.batch_norm, F.batch_norm_backward, ()),
    "layer": (F.layer_norm, F.layer_norm_backward, ()),
    "rms": (F.rms_norm, F.rms_norm_backward, ()),
    "group": (F.group_norm, F.group_norm_backward, (1,)),
}


@pytest.mark.parametrize("name", FORWARD_AND_BACKWARD)
@pytest.mark.parametrize("chosen", [True, False])
def test_gradients_and_results_lie_where_the_data_does(registered, cupy, x, name, chosen):
    forward, backward, groups = FORWARD_AND_BACKWARD[name]
    backend = registered if chosen else None
    places = "in host memory", "on CUDA device 0"
    arrays = x, cupy.asarray(x)
    for here, there in ((0, 1), (1, 0)):
        data, other = arrays[here], arrays[there]
        said = rf"is {places[there]}, but the data is {places[here]}; copy one of them"
        moments = forward(data, *groups, backend=backend)[1]
        with pytest.raises(TypeError, match=f"^dy {said}"):
            backward(other, data, moments, *groups, backend=backend)
        with pytest.raises(TypeError, match=f"^out {said}"):
            forward(data, *groups, out=other, backend=backend)
        with pytest.raises(TypeError, match=f"^out {said}"):
            backward(data, data, moments, *groups, out=other, backend=backend)
    layer = nc.BatchNorm(3, backend=backend)
    layer(arrays[1])
    with pytest.raises(TypeError, match=r"^dy is in host memory"):
        layer.backward(x)
    with pytest.raises(TypeError, match=r"^out is in host memory"):
        layer(arrays[1], x)


@pytest.mark.parametrize("chosen", [True, False])
def test_vectors_go_where_the_data_is(registered, cupy, x, chosen):
    backend = registered if chosen else None
    vectors = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
    mean, var = np.zeros(3), np.array([1.0, 4.0, 9.0])
    native = cupy.asarray(x)
    wanted = F.batch_norm_inference(x, mean, var, *vectors, backend="cpu")
    for data, make in ((x, cupy.asarray), (native, np.asarray)):
        given = [make(each) for each in (mean, var, *vectors)]
        y = F.batch_norm_inference(data, *given, backend=backend)
        np.testing.assert_array_equal(to_host(y), wanted)
        for function, groups in ((F.batch_norm, ()), (F.layer_norm, ()), (F.group_norm, (1,))):
            both = [
                to_host(function(data, *groups, *each, backend=backend)[0])
                for each in (given[2:], vectors if data is x else map(cupy.asarray, vectors))
            ]
            np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("make", [np.asarray, list])
def test_a_variance_of_the_host_is_checked_wherever_the_data_is(registered, cupy, x, make):
    var = make(np.array([1.0, 4.0, -1e-300]))
    for data in (x, cupy.asarray(x)):
        with pytest.raises(ValueError, match="var is negative in channel 2"):
            F.batch_norm_inference(data, np.zeros(3), var)
