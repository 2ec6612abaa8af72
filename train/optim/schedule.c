/* Warm-up and cosine: see schedule.h. */
#include "train/optim/schedule.h"

#include <math.h>

int wl_schedule_check(const struct wl_schedule *s, struct wl_err *err)
{
	if (!(s->lr >= 0 && isfinite(s->lr)))
		return wl_err_set(err, WL_EUSAGE,
			"optim.lr is %g: expected a finite rate that is not negative", s->lr);
	if (!(s->floor >= 0 && s->floor <= s->lr))
		return wl_err_set(err, WL_EUSAGE,
			"optim.lr-floor is %g: expected a rate between 0 and optim.lr (%g)",
			s->floor,
			s->lr);
	if (s->total_steps < 1 || s->warmup_steps < 0 || s->warmup_steps > s->total_steps)
		return wl_err_set(err, WL_EUSAGE,
			"optim.warmup-steps is %lld and the run has %lld steps: expected a warm-up "
			"from 0 to the length of the run; lower it or train longer",
			(long long)s->warmup_steps, (long long)s->total_steps);
	return 0;
}

double wl_schedule_lr(const struct wl_schedule *s, int64_t step)
{
	const double pi = 3.14159265358979323846;
	int64_t span = s->total_steps - s->warmup_steps;
	double t;

	if (step < s->warmup_steps)
		return s->lr * (double)(step + 1) / (double)s->warmup_steps;
	if (span <= 0 || step >= s->total_steps)
		return s->floor;
	t = (double)(step - s->warmup_steps) / (double)span;
	return s->floor + 0.5 * (s->lr - s->floor) * (1.0 + cos(pi * t));
}
