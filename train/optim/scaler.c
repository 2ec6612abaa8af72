/* Dynamic loss scale: see scaler.h. */
#include "train/optim/scaler.h"

#include <math.h>

static const float growth = 2, backoff = 0.5f;

double wl_scaler_scale(const struct wl_scaler *s)
{
	return s->scale > 0 ? (double)s->scale : 1;
}

bool wl_scaler_overflowed(const struct wl_scaler *s, double loss, double grad_norm)
{
	return s->scale > 1 && isfinite(loss) && !isfinite(grad_norm);
}

void wl_scaler_update(struct wl_scaler *s, bool finite)
{
	if (!(s->scale > 0))
		return;
	if (!finite) {
		s->scale *= backoff;
		s->good = 0;
		s->overflows++;
		return;
	}
	if (++s->good < s->interval)
		return;
	if (isfinite(s->scale * growth))
		s->scale *= growth;
	s->good = 0;
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
