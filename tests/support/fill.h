/* Values made from names, the same in C and in tests/golden/model.py: weights
 * and inputs of the golden cases need not be stored. */
#ifndef TESTS_SUPPORT_FILL_H
#define TESTS_SUPPORT_FILL_H

#include "train/nn/params.h"

/* out[i] uniform in [-1, 1), 24 bits, a function of name and i. */
void fill_values(const char *name, int64_t n, float *out);
/* Token ids below vocab, likewise. */
void fill_tokens(const char *name, int64_t n, int32_t vocab, int32_t *out);
/* The golden weight of a parameter, in torch's order. */
void fill_weight(const char *name, const struct wl_shape *torch_shape, float *out);
/* Every entry of the sealed store. */
void fill_params(struct wl_params *p);
/* Norm of x[n] and its dot product with fill_values(name). */
void fill_probe(const char *name, int64_t n, const float *x, double *norm, double *dot);

#endif
