/* Skipping bad steps: see guard.h. */
#include "train/optim/guard.h"

enum wl_guard_verdict wl_guard_judge(struct wl_guard *g, double loss, double grad_norm)
{
	return wl_guard_rule(g, loss, grad_norm);
}

int wl_guard_give_up(const struct wl_guard *g, int64_t step, struct wl_err *err)
{
	if (g->max_in_a_row <= 0 || g->in_a_row < g->max_in_a_row)
		return 0;
	return wl_err_set(err, WL_ENUMERIC,
		"training diverged: %lld steps in a row up to step %lld had a loss or gradient "
		"that is not finite or a spike of the gradient norm; lower optim.lr, lengthen "
		"optim.warmup-steps or tighten optim.clip-norm, and run again from the last "
		"checkpoint", (long long)g->in_a_row, (long long)step);
}

json_t *wl_guard_save(const struct wl_guard *g)
{
	json_t *window = json_array();
	int64_t n = g->seen < WL_GUARD_WINDOW ? g->seen : WL_GUARD_WINDOW, i;

	if (!window)
		return NULL;
	for (i = 0; i < n; i++)
		if (json_array_append_new(window, json_real(g->window[i]))) {
			json_decref(window);
			return NULL;
		}
	return json_pack("{s:I,s:I,s:I,s:I,s:o}", "seen", (json_int_t)g->seen, "nonfinite",
		(json_int_t)g->nonfinite, "spikes", (json_int_t)g->spikes, "in_a_row",
		(json_int_t)g->in_a_row, "window", window);
}

int wl_guard_restore(struct wl_guard *g, const json_t *state, struct wl_err *err)
{
	json_int_t seen, nonfinite, spikes, in_a_row;
	json_t *window, *v;
	size_t i;

	if (json_unpack((json_t *)state, "{s:I,s:I,s:I,s:I,s:o}", "seen", &seen, "nonfinite",
		    &nonfinite, "spikes", &spikes, "in_a_row", &in_a_row, "window", &window) ||
		seen < 0 ||
		json_array_size(window) !=
			(size_t)(seen < WL_GUARD_WINDOW ? seen : WL_GUARD_WINDOW))
		return wl_err_set(err, WL_ECKPT,
			"state.json: the key \"guard\" does not hold the state of the step guard "
			"(seen, nonfinite, spikes, in_a_row, window); use another checkpoint");
	json_array_foreach(window, i, v)
		g->window[i] = json_number_value(v);
	g->seen = seen;
	g->nonfinite = nonfinite;
	g->spikes = spikes;
	g->in_a_row = in_a_row;
	return 0;
}
