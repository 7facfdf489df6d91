// A store of features in C++ with a face for Python by nanobind: its memory is std::vector's, the
// arrays that come and go are nanobind's, of any library with DLPack, and NumPy is not needed.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "normcore.h"

namespace nb = nanobind;

namespace {

const normcore_api *api = nullptr;

using Given = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using View = nb::ndarray<nb::array_api, float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

class Features {
public:
    explicit Features(Given values)
        : sizes_{static_cast<int64_t>(values.shape(0)), static_cast<int64_t>(values.shape(1))},
          values_(values.size())
    {
        for (size_t i = 0; i < values.shape(0); ++i)
            for (size_t j = 0; j < values.shape(1); ++j)
                values_[i * values.shape(1) + j] = values(i, j);
    }

    // Layer norm of each row in place, in a thread that Python does not know, without the GIL.
    void layer_norm(double eps, int num_threads)
    {
        normcore_call call{};
        call.num_threads = num_threads;
        std::vector<double> states(static_cast<size_t>(sizes_[0]) * NORMCORE_STATE_ROWS);
        normcore_array rows{values_.data(), sizes_, nullptr, 2, NORMCORE_FLOAT32};
        int status = NORMCORE_OK;
        {
            nb::gil_scoped_release released;
            std::thread([&] {
                status = api->row_norm(&rows, 1, 1, nullptr, nullptr, eps, &rows, states.data(),
                                       &call);
            }).join();
        }
        if (status != NORMCORE_OK)
            throw std::runtime_error(call.message);
    }

    // The same while this thread keeps the GIL: a call that wanted it would wait for ever.
    void layer_norm_beside_python(double eps)
    {
        normcore_call call{};
        std::vector<double> states(static_cast<size_t>(sizes_[0]) * NORMCORE_STATE_ROWS);
        normcore_array rows{values_.data(), sizes_, nullptr, 2, NORMCORE_FLOAT32};
        int status = NORMCORE_OK;
        std::thread([&] {
            status =
                api->row_norm(&rows, 1, 1, nullptr, nullptr, eps, &rows, states.data(), &call);
        }).join();
        if (status != NORMCORE_OK)
            throw std::runtime_error(call.message);
    }

    View values()
    {
        return View(values_.data(), {static_cast<size_t>(sizes_[0]), static_cast<size_t>(sizes_[1])},
                    nb::find(*this));
    }

private:
    int64_t sizes_[2];
    std::vector<float> values_;
};

}  // namespace

NB_MODULE(features, m)
{
    api = normcore_import();
    if (!api)
        throw nb::python_error();
    nb::class_<Features>(m, "Features")
        .def(nb::init<Given>())
        .def("layer_norm", &Features::layer_norm, nb::arg("eps") = 1e-5,
             nb::arg("num_threads") = 0)
        .def("layer_norm_beside_python", &Features::layer_norm_beside_python,
             nb::arg("eps") = 1e-5)
        .def("values", &Features::values);
}
