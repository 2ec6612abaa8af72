/*
 * Whether a step counts, decided where its gradients are: the guard against losses that are not
 * finite and spikes (train/optim/guard.h), fp16's loss scale (train/optim/scaler.h), the factor of
 * clipping, the number of updates behind Adam's bias correction, the ring positions of the queues.
 * The rules are written once, for the host and for devices.
 *
 * On the processor the trainer applies them itself.  A device's backend brings wl_judge_ops: it
 * decides in its own memory, its kernels read what was decided, and the host hears of it when it
 * asks, some steps later; between two steps nobody waits.
 */
#ifndef WL_TRAIN_BACKEND_JUDGE_H
#define WL_TRAIN_BACKEND_JUDGE_H

#include "train/backend/backend.h"

#include <math.h>

enum { WL_GUARD_WINDOW = 128 };

/* WL_GUARD_OVERFLOW is the loss scale's: the guard neither gives nor counts it. */
enum wl_guard_verdict { WL_GUARD_OK, WL_GUARD_NONFINITE, WL_GUARD_SPIKE, WL_GUARD_OVERFLOW };

struct wl_guard {
	double spike_z;        /* skip a norm this many standard deviations up; 0 = never */
	int64_t max_in_a_row;  /* skipped steps in a row that end the run */
	double window[WL_GUARD_WINDOW]; /* gradient norms of the last accepted steps */
	int64_t seen;          /* accepted so far; window slot = seen % WL_GUARD_WINDOW */
	int64_t nonfinite, spikes, in_a_row; /* counters */
};

struct wl_scaler {
	float scale;       /* of the next step; 0: there is no scaling */
	int64_t interval;  /* good steps in a row that double the scale: 2000 in PyTorch */
	int64_t good;      /* so many since the scale last changed */
	int64_t overflows; /* bad steps so far, for the log */
};

/* --- the rules; see guard.h and scaler.h --- */

WL_HD bool wl_is_finite(double v)
{
	return v - v == 0.0;
}

WL_HD bool wl_guard_sees_spike(const struct wl_guard *g, double norm)
{
	double mean = 0, var = 0, d;

	if (g->spike_z <= 0 || g->seen < WL_GUARD_WINDOW)
		return false;
	for (int i = 0; i < WL_GUARD_WINDOW; i++)
		mean += g->window[i];
	mean /= WL_GUARD_WINDOW;
	for (int i = 0; i < WL_GUARD_WINDOW; i++) {
		d = g->window[i] - mean;
		var += d * d;
	}
	var /= WL_GUARD_WINDOW;
	return norm - mean > g->spike_z * sqrt(var) && norm > 2 * mean;
}

WL_HD enum wl_guard_verdict wl_guard_rule(struct wl_guard *g, double loss, double norm)
{
	bool finite = wl_is_finite(loss) && wl_is_finite(norm);

	if (!finite || wl_guard_sees_spike(g, norm)) {
		*(finite ? &g->spikes : &g->nonfinite) += 1;
		g->in_a_row++;
		return finite ? WL_GUARD_SPIKE : WL_GUARD_NONFINITE;
	}
	g->window[g->seen++ % WL_GUARD_WINDOW] = norm;
	g->in_a_row = 0;
	return WL_GUARD_OK;
}

WL_HD double wl_scaler_factor(const struct wl_scaler *s)
{
	return s->scale > 0 ? (double)s->scale : 1;
}

WL_HD bool wl_scaler_sees_overflow(const struct wl_scaler *s, double loss, double norm)
{
	return s->scale > 1 && wl_is_finite(loss) && !wl_is_finite(norm);
}

WL_HD void wl_scaler_rule(struct wl_scaler *s, bool finite)
{
	const float growth = 2, backoff = 0.5f;

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
	if (wl_is_finite((double)(s->scale * growth)))
		s->scale *= growth;
	s->good = 0;
}

/* The step's verdict, and the next step's loss scale. */
WL_HD enum wl_guard_verdict wl_judge_rule(
	struct wl_guard *g, struct wl_scaler *s, double loss, double norm)
{
	bool overflowed = wl_scaler_sees_overflow(s, loss, norm);

	wl_scaler_rule(s, wl_is_finite(norm));
	return overflowed ? WL_GUARD_OVERFLOW : wl_guard_rule(g, loss, norm);
}

/* What the gradients are multiplied with before the update: clipped to the norm `clip` (0: not), as
 * torch.nn.utils.clip_grad_norm_ does, and divided by the loss scale.  norm: of the loss. */
WL_HD float wl_judge_factor(double clip, double norm, double loss_scale)
{
	double by = clip > 0 ? clip / (norm + 1e-6) : 1;

	return (float)((by < 1 ? by : 1) * (loss_scale > 0 ? 1 / loss_scale : 1));
}

/* Whether what a step computed is not to be kept anywhere: running statistics become what they
 * were, and its keys enter no queue.  (A spike's keys are good.) */
WL_HD bool wl_judge_undoes(enum wl_guard_verdict v)
{
	return v == WL_GUARD_NONFINITE || v == WL_GUARD_OVERFLOW;
}

/* --- on a device --- */

/* What is carried from step to step. */
struct wl_judge_state {
	struct wl_guard guard;
	struct wl_scaler scaler;
	int64_t updates; /* of the optimiser, done so far */
	int64_t next[2]; /* rows of the queues that the next push begins at */
};

struct wl_judge_settings {
	float beta1, beta2;
	double clip;           /* largest norm; 0: none */
	double loss_weight;    /* the loss is the sum of both directions' times this */
	int world;             /* ranks that judge together */
	int64_t rows, size[2]; /* rows of a push, and of the queues; 0: there are none */
};

/* Of a step that was judged. */
struct wl_judged {
	double loss, loss_i2t, loss_t2i, acc_i2t, acc_t2i; /* means over the ranks */
	double norm, loss_scale;      /* of the gradients of the loss; that the step had */
	float log_scale;              /* after the update */
	enum wl_guard_verdict verdict;
	int64_t bad; /* of a step that is not finite: the first float of this rank's gradients that
		      * is not, its place in the store; -1: none */
	struct wl_judge_state after;
};

enum { WL_JUDGE_MEASURES = 6, WL_JUDGE_SLOTS = 4 };

/* What a rank measured and all of them, [world][WL_JUDGE_MEASURES] by rank; the log scale, and
 * those of all ranks, of which not each owns it.  All of the backend's memory; alone, all is mine
 * and scales is scale. */
struct wl_judge_places {
	double *squares;      /* the gradients' as they lie in the store: squares() writes it */
	double *mine, *all;
	float *scale, *scales;
};

struct wl_judge; /* the backend's own */

/* In the order of a step; all but open, put and hear only give work to the backend. */
struct wl_judge_ops {
	/* NULL on failure. */
	struct wl_judge *(*open)(struct wl_backend *be, const struct wl_judge_settings *how,
		struct wl_err *err);
	void (*close)(struct wl_judge *j); /* accepts NULL */
	void (*places)(struct wl_judge *j, struct wl_judge_places *out);
	/* Goes on from s: at the start and after a load. */
	void (*put)(struct wl_judge *j, const struct wl_judge_state *s);
	/* *to = weight times the loss scale: where backward starts. */
	void (*seed)(struct wl_judge *j, double weight, float *to);
	/* mine, from *squares and the means over the parts of scores [parts,4] (losses, then
	 * accuracies). */
	void (*measure)(struct wl_judge *j, const float *scores, int64_t parts);
	/* Decides, by all. */
	void (*decide)(struct wl_judge *j);
	/* Where the step is not finite: finds the first that is not of `rows` rows of n gradients,
	 * one every `step`, the first of which lies at `at` of the store; calls of a step come in
	 * rising order. */
	void (*blame)(struct wl_judge *j, const float *grad, int64_t n, int64_t step, int64_t rows,
		int64_t at);
	/* Where the step is undone: to = from, n floats. */
	void (*undo)(struct wl_judge *j, float *to, const float *from, int64_t n);
	/* Where it is not: rows [settings.rows, dim] and their identities [rows, 2] enter queue
	 * number q, whose keys are of this type, f32 or bf16 (rounded to nearest). */
	void (*push)(struct wl_judge *j, int q, void *keys, enum wl_dtype type, int64_t *key_ids,
		const float *rows, const int64_t *ids, int64_t dim);
	/* *v is made at most `most`, then *scale = *v. */
	void (*clamp)(struct wl_judge *j, float *v, float most);
	/* Sends what became of the step, with scales[owner] (-1: *scale), to the host's slot. */
	int (*tell)(struct wl_judge *j, int owner, int slot, struct wl_err *err);
	/* Waits for what was told there. */
	int (*hear)(struct wl_judge *j, int slot, struct wl_judged *out, struct wl_err *err);
};

#endif
