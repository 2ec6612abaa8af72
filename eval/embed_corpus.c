/*
 * A corpus to scores: each pair's picture and first text, cleaned as the filter does, to the cosine
 * of their embeddings; or to the embeddings themselves (embed_vectors.h).  Rows of scores are
 * appended batch by batch; whoever runs the same command again goes on where the last whole line
 * ends.  The encoder's graph is of one size, so a row's score does not depend on what is in the
 * batch with it, nor on kills.
 */
#include "eval/embed_corpus.h"

#include "clean/pairtext.h"
#include "eval/embed_vectors.h"
#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "ops/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE = 512, REASON = 200 };

struct scoring {
	const struct wl_embed_opts *o;
	struct wl_eval_model *m;
	struct wl_corpus *corpus;
	struct wl_text *text;
	struct wl_progress *progress;
	struct wl_vector_files *files; /* NULL: scores are wanted */
	int fd;	       /* of o->out, positioned at its end */
	int64_t *done; /* ids that the file has, sorted; owned */
	size_t n_done, cap_done;
	/* One batch: rows, and what is noted between them of pairs without a score, so that the
	 * file's lines are in the order of pairs. */
	int partition; /* of all rows */
	int64_t *id;
	bool *has_image, *has_text; /* of scores: always both */
	float *pixels, *boxes, *mask, *words_mask, *images, *texts;
	int32_t *words;
	int64_t n, scored, bad;
	size_t *notes_end; /* of each row: the notes before it; owned */
	struct wl_buf bytes, clean, notes, lines;
};

/* ---- the file ---- */

/* Which model and precision, in a line: two are never mixed. */
static int model_name(const struct scoring *s, char out[LINE], struct wl_err *err)
{
	char *path = wl_path_join(s->m->dir, "state.json", err);
	json_t *state = path ? wl_json_load(path, err) : NULL;
	const char *sha = json_string_value(json_object_get(
		json_object_get(json_object_get(state, "files"), "model.safetensors"), "sha256"));
	int ret = -1;

	if (sha) {
		snprintf(out, LINE, "model %.64s, %s", sha, s->o->precision);
		ret = 0;
	} else if (state) {
		wl_err_set(err, WL_ECKPT,
			"%s: names no hash of model.safetensors; the checkpoint is not of this "
			"project's train.",
			path);
	}
	json_decref(state);
	free(path);
	return ret;
}

/* "# ..." that opens the file of scores. */
static int header(const struct scoring *s, char out[LINE], struct wl_err *err)
{
	char name[LINE];

	WL_TRY(model_name(s, name, err));
	snprintf(out, LINE, "# agreement of picture and text, %.200s\npair_id,score\n", name);
	return 0;
}

static int keep_done(struct scoring *s, int64_t id, struct wl_err *err)
{
	if (s->n_done == s->cap_done) {
		size_t cap = s->cap_done ? 2 * s->cap_done : 4096;
		int64_t *p = realloc(s->done, cap * sizeof(*p));
		if (!p)
			return wl_err_nomem(err, "ids of scored pairs", cap * sizeof(*p));
		s->done = p;
		s->cap_done = cap;
	}
	s->done[s->n_done++] = id;
	return 0;
}

static int by_value(const void *p, const void *q)
{
	int64_t a = *(const int64_t *)p, b = *(const int64_t *)q;

	return (a > b) - (a < b);
}

/* "ID,SCORE" or "# ID: why not". */
static bool parse_line(const char *line, int64_t *id)
{
	int end = 0;
	double score;

	if (sscanf(line, "# %" SCNd64 ":%n", id, &end) == 1 && end > 0)
		return true;
	end = 0;
	return sscanf(line, "%" SCNd64 ",%lf%n", id, &score, &end) == 2 && line[end] == '\n';
}

/* Reads what the file has; gives where its last whole and sound line ends.  0: it is not of this
 * model. */
static int64_t read_done(struct scoring *s, FILE *f, const char *head, struct wl_err *err)
{
	int64_t end = (int64_t)strlen(head), id;
	size_t cap = 0;
	char *line = NULL, first[LINE] = "";
	ssize_t n;

	if (fread(first, 1, (size_t)end, f) != (size_t)end || strcmp(first, head) != 0)
		return 0;
	while ((n = getline(&line, &cap, f)) > 0) {
		if (line[n - 1] != '\n' || !parse_line(line, &id))
			break; /* cut off by a kill, and so the last */
		if (keep_done(s, id, err) < 0) {
			end = -1;
			break;
		}
		end += n;
	}
	free(line);
	if (end > 0 && s->n_done)
		qsort(s->done, s->n_done, sizeof(*s->done), by_value);
	return end;
}

static int write_all(const struct scoring *s, const char *p, size_t n, struct wl_err *err)
{
	while (n) {
		ssize_t k = write(s->fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return wl_err_errno(err, "%s cannot be written", s->o->out);
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Opens the file at the place where scoring goes on. */
static int open_out(struct scoring *s, struct wl_err *err)
{
	const char *out = s->o->out;
	char head[LINE];
	int64_t end = 0;
	FILE *f;

	WL_TRY(header(s, head, err));
	s->fd = open(out, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (s->fd < 0)
		return wl_err_errno(err, "--out %s cannot be opened", out);
	f = fopen(out, "re");
	if (!f)
		return wl_err_errno(err, "--out %s cannot be read", out);
	end = read_done(s, f, head, err);
	if (end == 0 && fseek(f, 0, SEEK_END) == 0 && ftell(f) > 0 && !s->o->replace)
		end = wl_err_set(err, WL_EUSAGE,
			"--out %s has scores of another model, or something else; give another "
			"name, or "
			"--replace.",
			out);
	fclose(f);
	if (end < 0)
		return -1;
	if (ftruncate(s->fd, end) < 0 || lseek(s->fd, end, SEEK_SET) < 0)
		return wl_err_errno(err, "--out %s cannot be cut to its whole lines", out);
	return end ? 0 : write_all(s, head, strlen(head), err);
}

/* ---- a batch ---- */

/* Adds the batch's vectors to the files. */
static int flush_vectors(struct scoring *s, struct wl_err *err)
{
	int64_t dim = s->m->encoder.dim;

	for (int64_t i = 0; i < s->n; i++)
		WL_TRY(wl_vector_files_add(s->files, s->partition, s->id[i],
			s->has_image[i] ? s->images + i * dim : NULL,
			s->has_text[i] ? s->texts + i * dim : NULL, err));
	wl_buf_reset(&s->notes);
	s->scored += s->n;
	s->n = 0;
	return 0;
}

static int flush(struct scoring *s, struct wl_err *err)
{
	int64_t dim = s->m->encoder.dim;
	size_t noted = 0;
	char line[64];

	if (s->n) {
		WL_TRY(wl_encoder_images(
			&s->m->encoder, s->pixels, s->boxes, s->mask, s->n, s->images, err));
		WL_TRY(wl_encoder_texts(
			&s->m->encoder, s->words, s->words_mask, s->n, s->texts, err));
	}
	if (s->files)
		return flush_vectors(s, err);
	wl_buf_reset(&s->lines);
	for (int64_t i = 0; i < s->n; i++) {
		const float *a = s->images + i * dim, *b = s->texts + i * dim;
		double dot = 0;
		for (int64_t k = 0; k < dim; k++)
			dot += (double)a[k] * b[k];
		if (!(dot >= -1.01 && dot <= 1.01))
			return wl_err_set(err, WL_ENUMERIC,
				"Pair %lld: the cosine is %g, expected -1 to 1; the model's "
				"weights are not "
				"finite or not of a trained model.",
				(long long)s->id[i], dot);
		WL_TRY(wl_buf_add(
			&s->lines, wl_buf_str(&s->notes) + noted, s->notes_end[i] - noted, err));
		noted = s->notes_end[i];
		WL_TRY(wl_buf_add(&s->lines, line,
			(size_t)snprintf(
				line, sizeof(line), "%lld,%.6f\n", (long long)s->id[i], dot),
			err));
	}
	WL_TRY(wl_buf_add(&s->lines, wl_buf_str(&s->notes) + noted, s->notes.len - noted, err));
	WL_TRY(write_all(s, wl_buf_str(&s->lines), s->lines.len, err));
	wl_buf_reset(&s->notes);
	s->scored += s->n;
	s->n = 0;
	return 0;
}

/* A pair without a score, with the reason in one line. */
static int leave_out(struct scoring *s, int64_t id, const char *why, struct wl_err *err)
{
	char line[LINE];
	int n = snprintf(line, sizeof(line), "# %lld: %.*s", (long long)id, REASON, why);

	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[n] = '\n';
	s->bad++;
	return wl_buf_add(&s->notes, line, (size_t)n + 1, err);
}

/* The pair's best text, cleaned, in s->clean: 1; 0: it has none. */
static int first_text(
	struct scoring *s, const struct wl_pair *p, const char *name, struct wl_err *err)
{
	struct wl_pairtext t;
	int ret = 0;

	WL_TRY(wl_pairtext_parse(&t, p->texts, name, err));
	for (size_t i = 0; i < t.n && ret == 0; i++) {
		wl_buf_reset(&s->clean);
		ret = wl_text_normalise(
			s->text, p->source, t.v[i].text, t.v[i].len, 0, &s->clean, NULL, err);
		if (ret == 0)
			ret = s->clean.len > 0;
	}
	wl_pairtext_release(&t);
	return ret;
}

static int add_pair(struct scoring *s, const struct wl_pair *p, struct wl_err *err)
{
	const struct wl_image_config *c = &s->m->config.image;
	int64_t px = (int64_t)c->px * c->px * 3, len = s->m->config.text.length;
	struct wl_err why = WL_ERR_INIT;
	char name[WL_PAIR_NAME];
	int some;

	wl_pair_name(p->partition, p->id, name);
	WL_TRY(some = first_text(s, p, name, err));
	if (!some && !s->files)
		return leave_out(s, p->id, "it has no text", err);
	wl_buf_reset(&s->bytes);
	WL_TRY(wl_corpus_image(s->corpus, p, &s->bytes, err));
	s->has_text[s->n] = some;
	s->has_image[s->n] = wl_eval_model_image(s->m, s->bytes.data, s->bytes.len,
				     s->pixels + s->n * px, s->boxes + s->n * c->regions * 4,
				     s->mask + s->n * c->regions, &why) == 0;
	if (!s->has_image[s->n]) {
		if (!s->files || !some)
			return leave_out(s, p->id, why.msg, err);
		s->bad++;
		memset(s->pixels + s->n * px, 0, (size_t)px * sizeof(*s->pixels));
		memset(s->boxes + s->n * c->regions * 4, 0, (size_t)c->regions * 4 * sizeof(float));
		for (int64_t r = 0; r < c->regions; r++)
			s->mask[s->n * c->regions + r] = 1;
	}
	wl_eval_model_text(s->m, wl_buf_str(&s->clean), s->clean.len, s->words + s->n * len,
		s->words_mask + s->n * len);
	s->notes_end[s->n] = s->notes.len;
	s->id[s->n++] = p->id;
	return s->n == s->o->batch ? flush(s, err) : 0;
}

static bool is_done(const struct scoring *s, int64_t id)
{
	return s->n_done && bsearch(&id, s->done, s->n_done, sizeof(id), by_value);
}

static int score_partition(struct scoring *s, int partition, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(s->corpus, partition, err);
	struct wl_pair p;
	int row, ret = -1;

	if (!cur)
		return -1;
	s->partition = partition;
	while (!wl_stop_requested() && (row = wl_pairs_next(cur, &p, err)) != 0) {
		WL_TRY_OUT(row);
		wl_progress_add(s->progress, 1);
		if (s->files ? wl_vector_files_has(s->files, partition, p.id)
			     : is_done(s, p.id))
			continue;
		if (s->o->limit && s->scored + s->n >= s->o->limit)
			break;
		WL_TRY_OUT(add_pair(s, &p, err));
	}
	ret = flush(s, err);
out:
	wl_pairs_close(cur);
	return ret;
}

static int make_room(struct scoring *s, struct wl_err *err)
{
	const struct wl_image_config *c = &s->m->config.image;
	size_t b = (size_t)s->o->batch, px = (size_t)c->px * (size_t)c->px * 3;
	size_t r = (size_t)c->regions, len = (size_t)s->m->config.text.length;
	size_t dim = (size_t)s->m->encoder.dim;

	s->id = malloc(b * sizeof(*s->id));
	s->notes_end = malloc(b * sizeof(*s->notes_end));
	s->has_image = calloc(b, sizeof(*s->has_image));
	s->has_text = calloc(b, sizeof(*s->has_text));
	s->pixels = malloc(b * px * sizeof(float));
	s->boxes = malloc(b * r * 4 * sizeof(float));
	s->mask = malloc(b * r * sizeof(float));
	s->words = malloc(b * len * sizeof(*s->words));
	s->words_mask = malloc(b * len * sizeof(float));
	s->images = malloc(b * dim * sizeof(float));
	s->texts = malloc(b * dim * sizeof(float));
	if (!s->id || !s->notes_end || !s->has_image || !s->has_text || !s->pixels || !s->boxes ||
		!s->mask || !s->words || !s->words_mask || !s->images || !s->texts)
		return wl_err_nomem(err, "a batch of pairs", b * px * sizeof(float));
	return 0;
}

static void scoring_release(struct scoring *s)
{
	wl_progress_free(s->progress);
	wl_corpus_close(s->corpus);
	wl_text_close(s->text);
	if (s->fd >= 0)
		close(s->fd);
	free(s->done);
	free(s->id);
	free(s->has_image);
	free(s->has_text);
	wl_vector_files_close(s->files);
	free(s->notes_end);
	free(s->pixels);
	free(s->boxes);
	free(s->mask);
	free(s->words);
	free(s->words_mask);
	free(s->images);
	free(s->texts);
	wl_buf_release(&s->bytes);
	wl_buf_release(&s->clean);
	wl_buf_release(&s->notes);
	wl_buf_release(&s->lines);
}

static int open_vectors(struct scoring *s, char name[LINE], struct wl_err *err)
{
	enum wl_saved_dtype store = strcmp(s->o->store, "bf16") == 0   ? WL_SAVED_BF16
				    : strcmp(s->o->store, "fp16") == 0 ? WL_SAVED_F16
								       : WL_SAVED_F32;

	WL_TRY(model_name(s, name, err));
	s->files = wl_vector_files_open(
		s->o->out, name, s->m->encoder.dim, store, s->o->replace, err);
	if (!s->files)
		return -1;
	s->n_done = wl_vector_files_count(s->files);
	return 0;
}

/* What is not in a file yet, or not on disk. */
static int finish(struct scoring *s, struct wl_err *err)
{
	if (s->files)
		return wl_vector_files_flush(s->files, err);
	return fsync(s->fd) < 0 ? wl_err_errno(err, "%s cannot be synced", s->o->out) : 0;
}

int wl_embed_corpus(struct wl_eval_model *m, const struct wl_embed_opts *o, struct wl_err *err)
{
	struct scoring s = {.o = o, .m = m, .fd = -1};
	struct wl_corpus_counts total;
	char name[LINE];
	int ret = -1;

	wl_buf_init(&s.bytes, WL_IMAGE_MAX_BYTES);
	wl_buf_init(&s.clean, 4 * (size_t)WL_TEXT_MAX_BYTES);
	wl_buf_init(&s.notes, (size_t)1 << 30);
	wl_buf_init(&s.lines, (size_t)1 << 31);
	s.corpus = wl_corpus_open(o->corpus, false, 0, err);
	s.text = s.corpus ? wl_text_open(err) : NULL;
	if (!s.text)
		goto out;
	WL_TRY_OUT(make_room(&s, err));
	WL_TRY_OUT(wl_corpus_count(s.corpus, &total, err));
	WL_TRY_OUT(o->vectors ? open_vectors(&s, name, err) : open_out(&s, err));
	s.progress = wl_progress_new(o->vectors ? "embedding" : "scoring", "pairs",
		(uint64_t)total.pairs);
	for (int p = 0; p < wl_corpus_partitions(s.corpus) && !wl_stop_requested(); p++)
		WL_TRY_OUT(score_partition(&s, p, err));
	WL_TRY_OUT(finish(&s, err));
	wl_info("%lld pairs %s (%zu were before, %lld %s) in %s", (long long)s.scored,
		o->vectors ? "embedded" : "scored", s.n_done, (long long)s.bad,
		o->vectors ? "have a picture that cannot be" : "cannot be", o->out);
	ret = wl_stop_requested();
out:
	scoring_release(&s);
	return ret;
}
