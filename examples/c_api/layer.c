/* A batch norm layer of a library in C that knows nothing of Python: it is handed the table of
 * normcore's functions, and keeps parameters and running averages in memory of its own. */

#include <stdlib.h>
#include <string.h>

#include "normcore.h"

typedef struct layer {
    const normcore_api *api;
    int64_t channels;
    double *states;       /* of the latest batch */
    float *gamma, *beta;  /* parameters, and their gradients */
    float *dgamma, *dbeta;
    double *mean, *var;   /* running averages */
} layer;

void layer_free(layer *l)
{
    if (!l)
        return;
    free(l->states);
    free(l->gamma);
    free(l->mean);
    free(l);
}

/* Make a layer; NULL without memory, or where the table is older than this program. */
layer *layer_new(const normcore_api *api, int64_t channels)
{
    layer *l = calloc(1, sizeof(layer));
    int64_t c;
    if (!l || normcore_check(api, NULL) != NORMCORE_OK) {
        free(l);
        return NULL;
    }
    l->api = api;
    l->channels = channels;
    l->states = calloc((size_t)channels * NORMCORE_STATE_ROWS, sizeof(double));
    l->gamma = calloc((size_t)channels * 4, sizeof(float));
    l->mean = calloc((size_t)channels * 2, sizeof(double));
    if (!l->states || !l->gamma || !l->mean) {
        layer_free(l);
        return NULL;
    }
    l->beta = l->gamma + channels;
    l->dgamma = l->beta + channels;
    l->dbeta = l->dgamma + channels;
    l->var = l->mean + channels;
    for (c = 0; c < channels; ++c)
        l->gamma[c] = 1.0f, l->var[c] = 1.0;
    return l;
}

/* Describe float32 of some channels in C order. */
static normcore_array described(void *data, const int64_t *sizes, int32_t ndim)
{
    normcore_array array;
    array.data = data;
    array.sizes = sizes;
    array.strides = NULL;
    array.ndim = ndim;
    array.dtype = NORMCORE_FLOAT32;
    return array;
}

/* Normalize images (samples, channels, pixels) in training, and move the running averages. */
int layer_forward(layer *l, const float *x, float *y, int64_t samples, int64_t pixels,
                  normcore_call *call)
{
    const int64_t sizes[3] = {samples, l->channels, pixels};
    normcore_array from = described((void *)x, sizes, 3), to = described(y, sizes, 3);
    normcore_array gamma = described(l->gamma, &l->channels, 1);
    normcore_array beta = described(l->beta, &l->channels, 1);
    int status = l->api->batch_norm(&from, 1, &gamma, &beta, 1e-5, &to, l->states, call);
    if (status == NORMCORE_OK)
        status = l->api->running(l->channels, l->states, 0.1, 1.0, l->mean, l->var, call);
    return status;
}

/* Write the gradient of the latest batch over dy, and take a step of gradient descent. */
int layer_backward(layer *l, float *dy, const float *x, int64_t samples, int64_t pixels,
                   float rate, normcore_call *call)
{
    const int64_t sizes[3] = {samples, l->channels, pixels};
    normcore_array from = described((void *)x, sizes, 3), upstream = described(dy, sizes, 3);
    normcore_array gamma = described(l->gamma, &l->channels, 1);
    normcore_array dgamma = described(l->dgamma, &l->channels, 1);
    normcore_array dbeta = described(l->dbeta, &l->channels, 1);
    int64_t c;
    int status = l->api->batch_norm_backward(&upstream, &from, 1, l->states, 1, &gamma, 1e-5,
                                             &upstream, &dgamma, &dbeta, call);
    if (status == NORMCORE_OK)
        for (c = 0; c < l->channels; ++c) {
            l->gamma[c] -= rate * l->dgamma[c];
            l->beta[c] -= rate * l->dbeta[c];
        }
    return status;
}

/* Copy gamma and beta, and the running averages. */
void layer_read(const layer *l, float *parameters, double *averages)
{
    memcpy(parameters, l->gamma, (size_t)l->channels * 2 * sizeof(float));
    memcpy(averages, l->mean, (size_t)l->channels * 2 * sizeof(double));
}
