/*
 * One batch is begun ahead where the loader has it ready: when it has not, the step is not kept
 * waiting for the next one's pictures.  Whether that happened cannot be seen in the results.
 */
#include "train/feed.h"

#include "train/backend/pictures.h"

#include <stdlib.h>
#include <string.h>

/* A batch begun, and what follows it. */
struct ahead {
	const struct wl_batch *b;
	struct wl_loader_pos after;
	int more; /* what the loader said: 0 is the end */
};

struct wl_feed {
	struct wl_loader *loader;
	const struct wl_picture_ops *ops; /* NULL: the loader's floats */
	struct wl_pictures *pictures;
	struct ahead next;
	bool begun;               /* next is */
	struct wl_err late;       /* what went wrong with it, told when it is asked for */
	struct wl_loader_pos pos; /* after the batch given last */
};

static int open_pictures(struct wl_feed *f, const struct wl_loader_opts *o,
	struct wl_backend *backend, struct wl_err *err)
{
	struct wl_pictures_opts po = {.batch = o->batch, .px = o->image_px, .dtype = WL_F32,
		.jpegs = o->jpegs};

	memcpy(po.mean, o->mean, sizeof po.mean);
	memcpy(po.std, o->std, sizeof po.std);
	f->ops = backend->pictures;
	f->pictures = f->ops->open(backend, &po, err);
	return f->pictures ? 0 : -1;
}

struct wl_feed *wl_feed_open(const struct wl_loader_opts *o, struct wl_backend *backend,
	struct wl_err *err)
{
	struct wl_feed *f = calloc(1, sizeof *f);
	struct wl_loader_opts lo = *o;

	if (!f) {
		wl_err_nomem(err, "the loader's batches", sizeof *f);
		return NULL;
	}
	lo.jpegs = o->jpegs && backend && backend->pictures;
	if (backend && backend->pictures) {
		if (open_pictures(f, o, backend, err) < 0) {
			wl_feed_close(f);
			return NULL;
		}
		lo.planes_only = true;
		lo.hold = 2;
		lo.memory = (struct wl_loader_memory){.alloc = f->ops->alloc_host,
			.free = f->ops->free_host, .user = backend};
	}
	f->loader = wl_loader_open(&lo, err);
	if (!f->loader) {
		wl_feed_close(f);
		return NULL;
	}
	f->late = (struct wl_err)WL_ERR_INIT;
	wl_loader_tell(f->loader, &f->pos);
	return f;
}

/* Uploads run from the loader's memory, so they end first. */
void wl_feed_close(struct wl_feed *f)
{
	if (!f)
		return;
	if (f->ops)
		f->ops->close(f->pictures);
	wl_loader_close(f->loader);
	free(f);
}

struct wl_loader *wl_feed_loader(struct wl_feed *f)
{
	return f->loader;
}

static int begin_next(struct wl_feed *f, struct wl_err *err)
{
	struct ahead *a = &f->next;

	a->more = wl_loader_next(f->loader, &a->b, err);
	if (a->more < 0)
		return -1;
	wl_loader_tell(f->loader, &a->after);
	f->begun = true;
	return a->more ? f->ops->start(f->pictures, a->b->areas, a->b->area_bytes, a->b->planes,
				 a->b->n, err)
		       : 0;
}

int wl_feed_next(struct wl_feed *f, const struct wl_batch **b, const float **pictures,
	struct wl_err *err)
{
	void *data;
	int more;

	if (!f->ops) {
		more = wl_loader_next(f->loader, b, err);
		if (more > 0)
			*pictures = (*b)->pixels;
		wl_loader_tell(f->loader, &f->pos);
		return more;
	}
	if (f->late.code != WL_OK) {
		if (err)
			*err = f->late;
		return -1;
	}
	if (!f->begun)
		WL_TRY(begin_next(f, err));
	if (!f->next.more)
		return 0;
	WL_TRY(f->ops->take(f->pictures, &data, err));
	*b = f->next.b;
	*pictures = data;
	f->pos = f->next.after;
	f->begun = false;
	if (wl_loader_ready(f->loader) && begin_next(f, &f->late) < 0)
		f->begun = false;
	return 1;
}

void wl_feed_tell(const struct wl_feed *f, struct wl_loader_pos *pos)
{
	*pos = f->pos;
}

int wl_feed_seek(struct wl_feed *f, const struct wl_loader_pos *pos, struct wl_err *err)
{
	void *data;

	/* What was begun is let go. */
	if (f->begun && f->next.more)
		WL_TRY(f->ops->take(f->pictures, &data, err));
	f->begun = false;
	f->late = (struct wl_err)WL_ERR_INIT;
	WL_TRY(wl_loader_seek(f->loader, pos, err));
	wl_loader_tell(f->loader, &f->pos);
	return 0;
}
