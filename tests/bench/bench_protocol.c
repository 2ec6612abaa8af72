/*
 * Features with planted ranks as .npy files, for timing `wenlan-eval retrieval` as a user runs it
 * (bench_protocol.sh).  Prints the R@1, R@5, R@10, median and mean rank that must come out, image
 * to text and then text to image.
 *
 *   bench_protocol IMAGES CAPTIONS DIM FOLDER     writes images.npy, texts.npy, pairs.npy there
 */
#include "tests/support/planted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *npy(const char *folder, const char *name, const char *type, const char *shape)
{
	char path[4096], head[128] = "\x93NUMPY\x01\x00\x76\x00";
	FILE *fp;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fp = fopen(path, "wb");
	if (!fp) {
		perror(path);
		exit(1);
	}
	memset(head + 10, ' ', 117);
	head[127] = '\n';
	{
		char text[118];
		int n = snprintf(text, sizeof text,
			"{'descr': '%s', 'fortran_order': False, 'shape': %s}", type, shape);

		memcpy(head + 10, text, (size_t)n);
	}
	fwrite(head, 1, sizeof head, fp);
	return fp;
}

static void write_rows(const char *folder, const char *name, const float *v, int64_t n, int64_t dim)
{
	char shape[64];
	FILE *fp;

	snprintf(shape, sizeof shape, "(%lld, %lld)", (long long)n, (long long)dim);
	fp = npy(folder, name, "<f4", shape);
	if (fwrite(v, sizeof *v, (size_t)(n * dim), fp) != (size_t)(n * dim) || fclose(fp)) {
		perror(name);
		exit(1);
	}
}

static void write_pairs(const char *folder, const struct planted *p)
{
	char shape[64];
	FILE *fp;
	size_t n = (size_t)p->in.n_pairs;

	snprintf(shape, sizeof shape, "(%zu,)", n);
	fp = npy(folder, "pairs.npy", "<i8", shape);
	if (fwrite(p->pair_image, sizeof *p->pair_image, n, fp) != n || fclose(fp)) {
		perror("pairs.npy");
		exit(1);
	}
}

static int print_expected(const struct planted *p)
{
	struct wl_err err = WL_ERR_INIT;
	const int64_t *ranks[] = {p->image_rank, p->text_rank};
	const int64_t n[] = {p->in.n_images, p->in.n_texts};

	for (int k = 0; k < 2; k++) {
		struct wl_recall r;

		if (wl_recall_from_ranks(ranks[k], n[k], &r, &err) < 0)
			return fprintf(stderr, "%s\n", err.msg), 1;
		printf("%s%.6f %.6f %.6f %.6f %.6f", k ? " " : "", r.r1, r.r5, r.r10, r.median_rank,
			r.mean_rank);
	}
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	struct planted p;
	int ret;

	if (argc != 5)
		return fprintf(stderr, "usage: bench_protocol IMAGES CAPTIONS DIM FOLDER\n"), 2;
	planted_make(&p, atoll(argv[1]), atoll(argv[2]), atoll(argv[3]));
	write_rows(argv[4], "images.npy", p.images, p.in.n_images, p.in.dim);
	write_rows(argv[4], "texts.npy", p.texts, p.in.n_texts, p.in.dim);
	write_pairs(argv[4], &p);
	ret = print_expected(&p);
	planted_release(&p);
	return ret;
}
