/* Dynamic loss scale: see scaler.h. */
#include "train/optim/scaler.h"

#include <math.h>

double wl_scaler_scale(const struct wl_scaler *s)
{
	return wl_scaler_factor(s);
}

bool wl_scaler_overflowed(const struct wl_scaler *s, double loss, double grad_norm)
{
	return wl_scaler_sees_overflow(s, loss, grad_norm);
}

void wl_scaler_update(struct wl_scaler *s, bool finite)
{
	wl_scaler_rule(s, finite);
}

json_t *wl_scaler_save(const struct wl_scaler *s)
{
	return json_pack("{s:f,s:I,s:I}", "scale", (double)s->scale, "good", (json_int_t)s->good,
		"overflows", (json_int_t)s->overflows);
}

int wl_scaler_restore(struct wl_scaler *s, const json_t *state, struct wl_err *err)
{
	json_int_t good, overflows;
	double scale;

	if (!state)
		return 0;
	if (json_unpack((json_t *)state, "{s:F,s:I,s:I}", "scale", &scale, "good", &good,
		    "overflows", &overflows) ||
		!(scale > 0 && isfinite((float)scale) && (float)scale > 0) || good < 0 ||
		overflows < 0)
		return wl_err_set(err, WL_ECKPT,
			"state.json: the key \"scaler\" does not hold the state of the loss scale "
			"(scale above 0, good, overflows); use another checkpoint");
	s->scale = (float)scale;
	s->good = good;
	s->overflows = overflows;
	return 0;
}
