/*
 * Which augmentation: presets, configuration, and the draw of the parameters.
 *
 * Every parameter has its own fixed place in the generator's sequence, so that switching one
 * operation off leaves the draws of all others as they were.
 */
#include "loader/augment.h"

#include "ops/hash.h"
#include "ops/json.h"
#include "ops/opt.h"

#include <math.h>
#include <string.h>

enum { CROP_TRIES = 10 }; /* torchvision */

/* Places in the sequence of one (seed, epoch, sample). */
enum {
	DRAW_CROP = 0, /* four a try: area, ratio, top, left */
	DRAW_FLIP = 4 * CROP_TRIES,
	DRAW_JITTER,
	DRAW_FACTOR, /* four, by part */
	DRAW_ORDER = DRAW_FACTOR + WL_JITTER_PARTS, /* three */
	DRAW_GREY = DRAW_ORDER + WL_JITTER_PARTS - 1,
	DRAW_BLUR,
	DRAW_SIGMA,
	DRAW_CAPTION,
};

struct draw {
	uint64_t seed, stream;
};

static struct draw draw_of(uint64_t seed, int64_t epoch, int64_t sample)
{
	return (struct draw){wl_mix64(seed) ^ wl_mix64(~(uint64_t)epoch), (uint64_t)sample};
}

static double unit(const struct draw *d, int place)
{
	return wl_rand_unit(d->seed, d->stream, (uint64_t)place);
}

static double between(const struct draw *d, int place, double lo, double hi)
{
	return lo + (hi - lo) * unit(d, place);
}

/* 0..n-1 */
static int below(const struct draw *d, int place, int n)
{
	int i = (int)(unit(d, place) * n);

	return i < n ? i : n - 1;
}

int wl_augment_preset(const char *name, struct wl_augment *out, struct wl_err *err)
{
	static const char *const names[] = {"none", "paper", "public", NULL};
	const struct wl_augment none = {
		.crop_scale_min = 1, .crop_scale_max = 1, .crop_ratio_min = 3.0 / 4,
		.crop_ratio_max = 4.0 / 3, .brightness = 0.4, .contrast = 0.4, .saturation = 0.4,
		.hue = 0.1, .blur_sigma_min = 0.1, .blur_sigma_max = 2.0,
	};
	const char *near;

	if (!strcmp(name, "none") || !strcmp(name, "public") || !strcmp(name, "paper")) {
		*out = none;
		if (!strcmp(name, "none"))
			return 0;
		out->jitter = 0.8;
		out->grey = 0.2;
		if (!strcmp(name, "public"))
			return 0;
		/* The paper names five operations without strengths: MoCo-v2's, as in the
		 * public no-box code (FACTS 5). */
		out->crop_scale_min = 0.2;
		out->flip = 0.5;
		out->blur = 0.5;
		return 0;
	}
	near = wl_nearest_name(name, names);
	return wl_err_set(err, WL_EUSAGE,
		"\"%s\" is not an augmentation preset; it is none, paper or public%s%s%s", name,
		near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

struct field {
	const char *name;
	size_t offset;
	double lo, hi; /* what is allowed */
};

#define FIELD(name, lo, hi) {#name, offsetof(struct wl_augment, name), lo, hi}
static const struct field fields[] = {
	FIELD(crop_scale_min, 1e-4, 1), FIELD(crop_scale_max, 1e-4, 1),
	FIELD(crop_ratio_min, 0.01, 100), FIELD(crop_ratio_max, 0.01, 100),
	FIELD(flip, 0, 1), FIELD(jitter, 0, 1),
	FIELD(brightness, 0, 1), FIELD(contrast, 0, 1), FIELD(saturation, 0, 1),
	FIELD(hue, 0, 0.5), FIELD(grey, 0, 1), FIELD(blur, 0, 1),
	FIELD(blur_sigma_min, 0, 20), FIELD(blur_sigma_max, 0, 20),
};
enum { N_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static int check_order(const struct wl_augment *a, struct wl_err *err)
{
	const char *what = NULL;

	if (a->crop_scale_min > a->crop_scale_max)
		what = "crop_scale";
	else if (a->crop_ratio_min > a->crop_ratio_max)
		what = "crop_ratio";
	else if (a->blur_sigma_min > a->blur_sigma_max)
		what = "blur_sigma";
	if (what)
		return wl_err_set(err, WL_EUSAGE,
			"augment: %s_min is greater than %s_max; swap them", what, what);
	return 0;
}

int wl_augment_parse(const json_t *v, struct wl_augment *out, struct wl_err *err)
{
	const char *known[N_FIELDS + 2] = {"preset"};
	struct wl_augment a;
	const char *preset;
	size_t i;

	if (json_is_string(v))
		return wl_augment_preset(json_string_value(v), out, err);
	if (!json_is_object(v))
		return wl_err_set(err, WL_EUSAGE,
			"augment: expected a preset's name or a mapping of fields");
	for (i = 0; i < N_FIELDS; i++)
		known[i + 1] = fields[i].name;
	WL_TRY(wl_json_only_keys(v, known, "augment", err));
	WL_TRY(wl_json_str_or(v, "preset", "augment", "none", &preset, err));
	WL_TRY(wl_augment_preset(preset, &a, err));
	for (i = 0; i < N_FIELDS; i++) {
		double *dst = (double *)((char *)&a + fields[i].offset);

		WL_TRY(wl_json_num_or(v, fields[i].name, "augment", *dst, dst, err));
		if (!(*dst >= fields[i].lo && *dst <= fields[i].hi))
			return wl_err_set(err, WL_EUSAGE,
				"augment: %s is %g, but must lie between %g and %g",
				fields[i].name, *dst, fields[i].lo, fields[i].hi);
	}
	WL_TRY(check_order(&a, err));
	*out = a;
	return 0;
}

void wl_augment_identity(int width, int height, struct wl_augment_params *out)
{
	*out = (struct wl_augment_params){
		.crop_w = width, .crop_h = height,
		.order = {-1, -1, -1, -1}, .factor = {1, 1, 1, 0},
	};
}

/* The central crop after ten tries that did not fit. */
static void crop_centre(const struct wl_augment *a, int width, int height,
	struct wl_augment_params *out)
{
	double ratio = (double)width / height;
	int w = width, h = height;

	if (ratio < a->crop_ratio_min)
		h = (int)rint(w / a->crop_ratio_min);
	else if (ratio > a->crop_ratio_max)
		w = (int)rint(h * a->crop_ratio_max);
	out->crop_w = w < 1 ? 1 : w;
	out->crop_h = h < 1 ? 1 : h;
	out->crop_x = (width - out->crop_w) / 2;
	out->crop_y = (height - out->crop_h) / 2;
}

static void crop_draw(const struct wl_augment *a, const struct draw *d, int width, int height,
	struct wl_augment_params *out)
{
	double area = (double)width * height;
	int t;

	for (t = 0; t < CROP_TRIES; t++) {
		int place = DRAW_CROP + 4 * t;
		double target = area * between(d, place, a->crop_scale_min, a->crop_scale_max);
		double ratio = exp(between(d, place + 1, log(a->crop_ratio_min),
			log(a->crop_ratio_max)));
		double w = rint(sqrt(target * ratio)), h = rint(sqrt(target / ratio));

		if (w < 1 || w > width || h < 1 || h > height)
			continue;
		out->crop_w = (int)w;
		out->crop_h = (int)h;
		out->crop_y = below(d, place + 2, height - out->crop_h + 1);
		out->crop_x = below(d, place + 3, width - out->crop_w + 1);
		return;
	}
	crop_centre(a, width, height, out);
}

/* Factors and their order (Fisher-Yates from the end). */
static void jitter_draw(const struct wl_augment *a, const struct draw *d,
	struct wl_augment_params *out)
{
	const double strength[3] = {a->brightness, a->contrast, a->saturation};
	int i;

	for (i = 0; i < WL_JITTER_PARTS; i++)
		out->order[i] = i;
	for (i = 0; i < 3; i++) {
		double lo = strength[i] < 1 ? 1 - strength[i] : 0;

		out->factor[i] = (float)between(d, DRAW_FACTOR + i, lo, 1 + strength[i]);
	}
	out->factor[WL_HUE] = (float)between(d, DRAW_FACTOR + WL_HUE, -a->hue, a->hue);
	for (i = WL_JITTER_PARTS - 1; i > 0; i--) {
		int j = below(d, DRAW_ORDER + i - 1, i + 1);
		int32_t t = out->order[i];

		out->order[i] = out->order[j];
		out->order[j] = t;
	}
}

void wl_augment_draw(const struct wl_augment *a, int width, int height, int side, uint64_t seed,
	int64_t epoch, int64_t sample, struct wl_augment_params *out)
{
	struct draw d = draw_of(seed, epoch, sample);

	wl_augment_identity(width, height, out);
	if (a->crop_scale_min < 1)
		crop_draw(a, &d, width, height, out);
	out->flip = unit(&d, DRAW_FLIP) < a->flip;
	if (unit(&d, DRAW_JITTER) < a->jitter)
		jitter_draw(a, &d, out);
	out->grey = unit(&d, DRAW_GREY) < a->grey;
	if (unit(&d, DRAW_BLUR) < a->blur)
		out->blur_sigma = (float)(between(&d, DRAW_SIGMA, a->blur_sigma_min,
			a->blur_sigma_max) * side / 224.0);
}

int64_t wl_caption_draw(int64_t n, uint64_t seed, int64_t epoch, int64_t sample)
{
	struct draw d = draw_of(seed, epoch, sample);
	int64_t i = (int64_t)(unit(&d, DRAW_CAPTION) * (double)n);

	return i < n ? i : n - 1;
}
