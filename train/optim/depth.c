/* Depth of a parameter by its name: see depth.h. */
#include "train/optim/depth.h"

#include <stdlib.h>
#include <string.h>

/* The number after a layer's mark, -1 when there is none; *scope: bytes up to the number. */
static int layer_of(const char *name, size_t *scope)
{
	static const char *const marks[] = {"encoder.layer.", ".blocks."};

	for (size_t k = 0; k < 2; k++) {
		const char *at = strstr(name, marks[k]);
		char *end;
		long n;

		if (!at)
			continue;
		at += strlen(marks[k]);
		n = strtol(at, &end, 10);
		if (end == at || *end != '.' || n < 0 || n > 10000)
			continue;
		*scope = (size_t)(at - name);
		return (int)n;
	}
	return -1;
}

static bool takes_input(const char *name)
{
	static const char *const parts[] = {"embeddings.", "conv_stem.", "backbone.bn1.",
		"patch_embed.", "cls_token", "pos_embed"};

	for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
		if (strstr(name, parts[k]))
			return true;
	return false;
}

int wl_layer_depth(const struct wl_params *p, int i)
{
	const char *name = p->item[i].name, *backbone = strstr(name, ".backbone.");
	int own, last = -1;
	size_t scope, same;

	if (!backbone)
		return 0;
	own = layer_of(name, &scope);
	if (own < 0 && !takes_input(name))
		return 0;
	same = own < 0 ? (size_t)(backbone - name) : scope;
	for (int k = 0; k < p->n; k++) {
		int n = layer_of(p->item[k].name, &scope);

		if (n > last && !strncmp(p->item[k].name, name, same))
			last = n;
	}
	return last - (own < 0 ? -1 : own) + 1;
}
