/* Pool sizes as published; COCO-CN's texts: OFA-Sys/Chinese-CLIP issue 175; MUGE: what its notebook
 * Chinese-CLIP-on-MUGE-Retrieval counts. */
#include "eval/protocol.h"

#include <stdlib.h>
#include <string.h>

static const struct wl_protocol protocols[] = {
	{"aic-icc", "AIC-ICC (validation split, which the paper calls test)", 30000, 150000, 5,
		false,
		"zero-shot unless said otherwise; all 30,000 images and all 150,000 captions are"
		" candidates; image to text: any of the five captions counts; text to image: mean "
		"over"
		" all captions"},
	{"wenlan", "WenLan test", 11000, 11000, 1, false,
		"11,000 pairs held out at random, one text an image; all are candidates"},
	{"flickr30k-cn", "Flickr30K-CN test", 1000, 5000, 5, false,
		"1,000 images, five captions each; any of the five counts"},
	{"flickr8k-cn", "Flickr8k-CN test", 1000, 5000, 5, false,
		"1,000 images, five captions each; any of the five counts"},
	{"coco-cn", "COCO-CN test", 1000, 1053, 0, false,
		"1,000 images with their written captions; any of an image's captions counts"},
	{"muge", "MUGE validation", 29806, 5008, 0, true,
		"text to image only: 5,008 queries over 29,806 images, any of a query's images "
		"counts;"
		" MR is the mean of three"},
};

const struct wl_protocol *wl_protocol_find(const char *name, struct wl_err *err)
{
	for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
		if (!strcmp(protocols[i].name, name))
			return &protocols[i];
	wl_err_set(err, WL_EUSAGE,
		"--protocol %s is unknown: there are aic-icc, wenlan, flickr30k-cn,"
		" flickr8k-cn, coco-cn and muge",
		name);
	return NULL;
}

static int wrong_pool(const struct wl_protocol *p, const char *what, int64_t expected,
	int64_t found, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"protocol %s has %lld %s and there are %lld here: the"
		" numbers could not be compared (leave --protocol out to measure anyway)",
		p->name, (long long)expected, what, (long long)found);
}

int wl_protocol_check(
	const struct wl_protocol *p, const struct wl_retrieval_in *in, struct wl_err *err)
{
	int32_t *count;
	int64_t bad = -1;

	if (in->n_images != p->images)
		return wrong_pool(p, "images", p->images, in->n_images, err);
	if (in->n_texts != p->texts)
		return wrong_pool(p, "texts", p->texts, in->n_texts, err);
	if (!p->captions)
		return 0;
	count = calloc((size_t)in->n_images, sizeof *count);
	if (!count)
		return wl_err_nomem(
			err, "counts of captions", (size_t)in->n_images * sizeof *count);
	for (int64_t k = 0; k < in->n_pairs; k++)
		count[in->pair_image[k]]++;
	for (int64_t i = in->n_images - 1; i >= 0; i--)
		if (count[i] != p->captions)
			bad = i;
	if (bad >= 0)
		wl_err_set(err, WL_EDATA,
			"protocol %s has %lld texts for every image, but image %lld has"
			" %d",
			p->name, (long long)p->captions, (long long)bad, count[bad]);
	free(count);
	return bad < 0 ? 0 : -1;
}
