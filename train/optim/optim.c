/* AdamW with groups: see optim.h. */
#include "train/optim/optim.h"

#include "train/optim/depth.h"

#include "ops/json.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>

static int check(const struct wl_optim_config *c, struct wl_err *err)
{
	if (!(c->beta1 >= 0 && c->beta1 < 1 && c->beta2 >= 0 && c->beta2 < 1))
		return wl_err_set(err, WL_EUSAGE,
			"optim.beta1 is %g and optim.beta2 %g: expected numbers in [0, 1)",
			c->beta1,
			c->beta2);
	if (!(c->layer_decay >= 0 && c->layer_decay <= 1))
		return wl_err_set(err, WL_EUSAGE, "optim.layer-decay is %g: expected a factor "
			"above 0 and at most 1", c->layer_decay);
	if (!(c->eps > 0 && c->weight_decay >= 0 && c->clip_norm >= 0))
		return wl_err_set(err, WL_EUSAGE, "optim.eps is %g, optim.weight-decay %g and "
			"optim.clip-norm %g: expected eps above 0 and the others not negative",
			c->eps, c->weight_decay, c->clip_norm);
	return 0;
}

/* The factors of the first rule that matches; used[i] counts the rule's parameters. */
static int rule_for(const json_t *groups, const char *name, double *lr, double *decay,
	int *used, struct wl_err *err)
{
	static const char *const keys[] = {"match", "lr", "decay", NULL};
	const char *match;
	json_t *rule;
	size_t i;

	*lr = *decay = 1;
	json_array_foreach(groups, i, rule) {
		if (wl_json_str(rule, "match", "optim.groups", &match, err) < 0)
			return -1;
		if (fnmatch(match, name, 0))
			continue;
		WL_TRY(wl_json_only_keys(rule, keys, "optim.groups", err));
		WL_TRY(wl_json_num_or(rule, "lr", "optim.groups", 1, lr, err));
		WL_TRY(wl_json_num_or(rule, "decay", "optim.groups", 1, decay, err));
		if (!(*lr >= 0 && *decay >= 0))
			return wl_err_set(err, WL_EUSAGE, "optim.groups: the rule for \"%s\" has "
				"lr %g and decay %g: expected factors that are not negative", match,
				*lr,
				*decay);
		used[i]++;
		return 0;
	}
	return 0;
}

/* Neighbouring parameters under the same rule share a range; the zero gaps between entries
 * stay zero under an update, so a range may span them. */
static int make_ranges(struct wl_optim *o, const json_t *groups, int *used, struct wl_err *err)
{
	const struct wl_params *p = o->params;
	double lr, decay;
	bool joins = false;
	int i, n = 0;

	for (i = 0; i < p->n; i++) {
		const struct wl_param *e = &p->item[i];

		if (!(e->flags & WL_PARAM_TRAINABLE) || (e->flags & WL_PARAM_BUFFER)) {
			joins = false;
			continue;
		}
		WL_TRY(rule_for(groups, e->name, &lr, &decay, used, err));
		if (o->config.layer_decay > 0)
			lr *= pow(o->config.layer_decay, wl_layer_depth(p, i));
		decay *= e->flags & WL_PARAM_DECAY ? o->config.weight_decay : 0;
		if (joins && o->lr_factor[n - 1] == lr &&
			o->ranges[n - 1].weight_decay == (float)decay) {
			o->ranges[n - 1].end = e->offset + e->count;
			continue;
		}
		o->lr_factor[n] = lr;
		o->ranges[n++] = (struct wl_adamw_range){.begin = e->offset,
			.end = e->offset + e->count, .weight_decay = (float)decay};
		joins = true;
	}
	o->n_ranges = n;
	return 0;
}

/* The parts of the ranges that this rank owns, in place of the ranges. */
static int own_ranges(struct wl_optim *o, struct wl_err *err)
{
	const struct wl_cut *cut = o->config.cut;
	size_t most = (size_t)o->n_ranges + (size_t)cut->n + 1, n = 0;
	struct wl_adamw_range *ranges;
	double *factor;
	struct wl_span s;

	for (int i = 0; i < o->n_ranges; i++) /* a range may cross many buckets */
		most += (size_t)((o->ranges[i].end - o->ranges[i].begin) / cut->bucket) + 1;
	ranges = calloc(most, sizeof *ranges);
	factor = calloc(most, sizeof *factor);
	if (!ranges || !factor) {
		free(ranges);
		free(factor);
		return wl_err_nomem(err, "the optimiser's ranges", most * sizeof *ranges);
	}
	for (int i = 0; i < o->n_ranges; i++) {
		struct wl_adamw_range r = o->ranges[i];

		for (s = wl_cut_next(cut, r.begin, r.end); s.begin < s.end;
			s = wl_cut_next(cut, s.end, r.end)) {
			ranges[n] = r;
			ranges[n].begin = s.begin;
			ranges[n].end = s.end;
			factor[n++] = o->lr_factor[i];
		}
	}
	free(o->ranges);
	free(o->lr_factor);
	o->ranges = ranges;
	o->lr_factor = factor;
	o->n_ranges = (int)n;
	return 0;
}

static int all_rules_used(const json_t *groups, const int *used, struct wl_err *err)
{
	json_t *rule;
	size_t i;

	json_array_foreach(groups, i, rule)
		if (!used[i])
			return wl_err_set(err, WL_EUSAGE, "optim.groups: the rule \"%s\" applies "
				"to no trainable parameter; correct the pattern or its place in "
				"the list",
				json_string_value(json_object_get(rule, "match")));
	return 0;
}

/* Memory of a moment; where a rank keeps its own pieces only, and the backend can, no more. */
static void *moment(const struct wl_optim *o, size_t each, struct wl_err *err)
{
	struct wl_backend *be = o->params->backend;
	const struct wl_cut *cut = o->config.update_all ? NULL : o->config.cut;
	size_t bytes = (size_t)o->params->floats * each;
	struct wl_part *parts;
	void *p;
	int ret;

	if (!cut || !be->reserve)
		return be->alloc(be, bytes, err);
	parts = calloc((size_t)cut->n + 1, sizeof *parts);
	if (!parts) {
		wl_err_nomem(err, "the parts of a moment", (size_t)cut->n * sizeof *parts);
		return NULL;
	}
	for (int b = 0; b < cut->n; b++) {
		struct wl_span mine = wl_cut_piece(cut, b, cut->rank);

		parts[b] = (struct wl_part){(size_t)mine.begin * each, (size_t)mine.end * each, -1};
	}
	p = be->reserve(be, bytes, err);
	ret = p ? be->place(be, p, parts, cut->n, err) : -1;
	free(parts);
	if (p && ret < 0)
		be->free_mem(be, p);
	return ret < 0 ? NULL : p;
}

int wl_optim_init(struct wl_optim *o, struct wl_params *params,
	const struct wl_optim_config *config, struct wl_err *err)
{
	size_t each = wl_dtype_bytes(config->state);
	const json_t *groups = config->groups;
	int *used = NULL, ret = -1;

	WL_ASSERT(params->sealed && params->grad);
	*o = (struct wl_optim){.params = params, .config = *config};
	o->config.groups = NULL;
	WL_TRY(check(config, err));
	if (groups && !json_is_null(groups) && !json_is_array(groups))
		return wl_err_set(err, WL_EUSAGE, "optim.groups: expected a list of mappings "
			"{match, lr, decay}");
	used = calloc(json_array_size(groups) + 1, sizeof *used);
	o->ranges = calloc((size_t)params->n + 1, sizeof *o->ranges);
	o->lr_factor = calloc((size_t)params->n + 1, sizeof *o->lr_factor);
	if (!used || !o->ranges || !o->lr_factor) {
		wl_err_nomem(err, "the optimiser's ranges", (size_t)params->n * sizeof *o->ranges);
		goto out;
	}
	o->m = moment(o, each, err);
	o->v = o->m ? moment(o, each, err) : NULL;
	if (!o->v || make_ranges(o, groups, used, err) < 0)
		goto out;
	ret = all_rules_used(groups, used, err);
	if (ret == 0 && o->config.cut && !o->config.update_all)
		ret = own_ranges(o, err);
out:
	free(used);
	if (ret < 0)
		wl_optim_release(o);
	return ret;
}

void wl_optim_release(struct wl_optim *o)
{
	if (!o || !o->params)
		return;
	if (o->m)
		o->params->backend->free_mem(o->params->backend, o->m);
	if (o->v)
		o->params->backend->free_mem(o->params->backend, o->v);
	free(o->ranges);
	free(o->lr_factor);
	*o = (struct wl_optim){0};
}

/* What the store's gradients are multiplied with to be the loss's. */
static double unscale(const struct wl_optim *o)
{
	return o->loss_scale > 0 ? 1 / o->loss_scale : 1;
}

double wl_optim_grad_squares(const struct wl_optim *o)
{
	struct wl_backend *be = o->params->backend;
	int64_t n = o->params->weights;
	double sum = 0;

	for (struct wl_span s = wl_cut_next(o->config.cut, 0, n); s.begin < s.end;
		s = wl_cut_next(o->config.cut, s.end, n))
		sum += be->sum_squares(be, o->params->grad + s.begin, s.end - s.begin);
	return sum * unscale(o) * unscale(o);
}

double wl_optim_grad_norm(const struct wl_optim *o)
{
	return sqrt(wl_optim_grad_squares(o));
}

/* k follows what lies in [begin, end) and in no range, which the update did not touch. */
static void follow_rest(const struct wl_optim *o, float *k, float momentum, struct wl_span s)
{
	const struct wl_params *p = o->params;
	int64_t at = s.begin, to;
	int i;

	for (i = 0; i <= o->n_ranges; i++) { /* ranges lie in the order of the store */
		to = i < o->n_ranges && o->ranges[i].begin < s.end ? o->ranges[i].begin : s.end;
		if (at < to)
			p->backend->ema(p->backend, k + at, p->value + at, to - at, momentum);
		if (to == s.end)
			return;
		at = o->ranges[i].end > at ? o->ranges[i].end : at;
	}
}

void wl_optim_step(struct wl_optim *o, double lr, double norm)
{
	wl_optim_step_with(o, lr, norm, NULL, 0);
}

static void step(struct wl_optim *o, double lr, const struct wl_adamw *how)
{
	struct wl_params *p = o->params;
	const struct wl_cut *cut = o->config.update_all ? NULL : o->config.cut;
	struct wl_span s;

	for (int i = 0; i < o->n_ranges; i++)
		o->ranges[i].lr = (float)(lr * o->lr_factor[i]);
	p->backend->adamw(p->backend, p->value, p->grad, o->m, o->v, o->ranges, o->n_ranges, how);
	if (!how->k)
		return;
	for (s = wl_cut_next(cut, 0, p->weights); s.begin < s.end;
		s = wl_cut_next(cut, s.end, p->weights))
		follow_rest(o, how->k, how->momentum, s);
}

static struct wl_adamw settings(const struct wl_optim *o, float *k, double momentum)
{
	return (struct wl_adamw){
		.beta1 = (float)o->config.beta1,
		.beta2 = (float)o->config.beta2,
		.eps = (float)o->config.eps,
		.state = o->config.state,
		.seed = o->config.seed,
		.k = k,
		.momentum = (float)momentum,
	};
}

void wl_optim_step_with(struct wl_optim *o, double lr, double norm, float *k, double momentum)
{
	struct wl_adamw how = settings(o, k, momentum);

	how.step = ++o->updates;
	how.grad_scale = wl_judge_factor(o->config.clip_norm, norm, o->loss_scale);
	step(o, lr, &how);
}

void wl_optim_step_judged(struct wl_optim *o, double lr, const struct wl_judge *judge, float *k,
	double momentum)
{
	struct wl_adamw how = settings(o, k, momentum);

	how.judge = judge;
	step(o, lr, &how);
}

/* This rank's pieces of the store as rows, so that a device takes hundreds of buckets at once:
 * those of full buckets, then the last one's.  The number of elements of out. */
struct rows {
	int64_t at, n, step, times;
};

static int owned_rows(const struct wl_optim *o, struct rows out[2])
{
	const struct wl_cut *cut = o->config.cut;
	int k = 0, full;
	struct wl_span s;

	if (!cut) {
		out[0] = (struct rows){0, o->params->weights, 0, 1};
		return 1;
	}
	full = (int)(cut->floats / cut->bucket);
	s = wl_cut_piece(cut, 0, cut->rank);
	if (full)
		out[k++] = (struct rows){s.begin, s.end - s.begin, cut->bucket, full};
	if (full < cut->n) {
		s = wl_cut_piece(cut, full, cut->rank);
		out[k++] = (struct rows){s.begin, s.end - s.begin, 0, 1};
	}
	return k;
}

void wl_optim_give_squares(const struct wl_optim *o, double *to)
{
	struct wl_backend *be = o->params->backend;
	struct rows r[2];
	int n = owned_rows(o, r);

	for (int i = 0; i < n; i++)
		be->squares(
			be, o->params->grad + r[i].at, r[i].n, r[i].step, r[i].times, to, i > 0);
}

void wl_optim_give_blame(const struct wl_optim *o, struct wl_judge *judge)
{
	const struct wl_judge_ops *ops = o->params->backend->judges;
	struct rows r[2];
	int n = owned_rows(o, r);

	for (int i = 0; i < n; i++)
		ops->blame(
			judge, o->params->grad + r[i].at, r[i].n, r[i].step, r[i].times, r[i].at);
}

const char *wl_optim_name_at(const struct wl_optim *o, int64_t at)
{
	const struct wl_params *p = o->params;

	for (int i = 0; i < p->n; i++)
		if (at >= p->item[i].offset && at < p->item[i].offset + p->item[i].count)
			return p->item[i].name;
	return NULL;
}

const char *wl_optim_blame(const struct wl_optim *o)
{
	struct wl_params *p = o->params;
	int i;

	for (i = 0; i < p->n; i++) {
		int64_t at = p->item[i].offset, end = at + p->item[i].count;
		struct wl_span s;

		if (p->item[i].flags & WL_PARAM_BUFFER)
			continue;
		for (s = wl_cut_next(o->config.cut, at, end); s.begin < s.end;
			s = wl_cut_next(o->config.cut, s.end, end))
			if (!isfinite(p->backend->sum_squares(p->backend, p->grad + s.begin,
				    s.end - s.begin)))
				return p->item[i].name;
	}
	return NULL;
}
