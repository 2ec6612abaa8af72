/*
 * Hashing several files side by side: see hasher.h.  One lock; the thread picks a piece of each
 * stream that has one, and goes as soon as every stream that may still get some has one, or as
 * many as fit are there, or somebody waits.
 */
#include "shards/hasher.h"

#include <pthread.h>
#include <stdlib.h>

struct wl_hasher {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* anything below, or in a stream, changed */
	struct wl_hash_stream *streams;
	bool closing;
};

/* Streams whose next pieces are to be hashed now; 0: not yet. */
static size_t choose(const struct wl_hasher *h, struct wl_hash_stream *out[WL_SHA256_STREAMS])
{
	bool urgent = false, wait_for_more = false;
	size_t n = 0;

	for (struct wl_hash_stream *s = h->streams; s; s = s->next) {
		if (s->given == s->hashed) {
			wait_for_more |= !s->ended;
			continue;
		}
		urgent |= s->wanted || s->ended;
		if (n < WL_SHA256_STREAMS)
			out[n++] = s;
	}
	return n == WL_SHA256_STREAMS || urgent || !wait_for_more ? n : 0;
}

/* The streams' next pieces, without the lock. */
static void hash_pieces(struct wl_hash_stream *const *s, size_t n)
{
	struct wl_sha256 *sha[WL_SHA256_STREAMS];
	const void *bytes[WL_SHA256_STREAMS];
	size_t len[WL_SHA256_STREAMS];

	for (size_t i = 0; i < n; i++) {
		const struct wl_hash_piece *p = &s[i]->queue[s[i]->hashed % WL_HASH_QUEUE];

		sha[i] = &s[i]->sha;
		bytes[i] = p->bytes;
		len[i] = p->n;
	}
	wl_sha256_add_many(sha, bytes, len, n);
}

static void *hasher_thread(void *arg)
{
	struct wl_hash_stream *now[WL_SHA256_STREAMS];
	struct wl_hasher *h = arg;

	pthread_mutex_lock(&h->lock);
	while (!h->closing) {
		size_t n = choose(h, now);

		if (!n) {
			pthread_cond_wait(&h->moved, &h->lock);
			continue;
		}
		/* Only this thread moves `hashed`, and a stream stays open until it caught up. */
		pthread_mutex_unlock(&h->lock);
		hash_pieces(now, n);
		pthread_mutex_lock(&h->lock);
		for (size_t i = 0; i < n; i++)
			now[i]->hashed++;
		pthread_cond_broadcast(&h->moved);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

struct wl_hasher *wl_hasher_new(struct wl_err *err)
{
	struct wl_hasher *h = calloc(1, sizeof *h);

	if (!h) {
		wl_err_nomem(err, "a hasher", sizeof *h);
		return NULL;
	}
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->moved, NULL);
	if (!pthread_create(&h->thread, NULL, hasher_thread, h))
		return h;
	wl_err_set(err, WL_EFAIL, "a thread to hash shards cannot be started");
	pthread_cond_destroy(&h->moved);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}

void wl_hasher_free(struct wl_hasher *h)
{
	if (!h)
		return;
	WL_ASSERT(!h->streams);
	pthread_mutex_lock(&h->lock);
	h->closing = true;
	pthread_cond_broadcast(&h->moved);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	pthread_cond_destroy(&h->moved);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

int wl_hash_stream_open(struct wl_hash_stream *s, struct wl_hasher *h, struct wl_err *err)
{
	*s = (struct wl_hash_stream){0};
	WL_TRY(wl_sha256_init(&s->sha, err));
	s->hasher = h;
	pthread_mutex_lock(&h->lock);
	s->next = h->streams;
	h->streams = s;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

void wl_hash_stream_give(struct wl_hash_stream *s, const void *bytes, size_t n)
{
	struct wl_hasher *h = s->hasher;

	pthread_mutex_lock(&h->lock);
	WL_ASSERT(s->given - s->hashed < WL_HASH_QUEUE && !s->ended);
	s->queue[s->given++ % WL_HASH_QUEUE] = (struct wl_hash_piece){bytes, n};
	pthread_cond_broadcast(&h->moved);
	pthread_mutex_unlock(&h->lock);
}

void wl_hash_stream_wait(struct wl_hash_stream *s, size_t pending)
{
	struct wl_hasher *h = s->hasher;

	pthread_mutex_lock(&h->lock);
	while (s->given - s->hashed > pending) {
		if (!s->wanted)
			pthread_cond_broadcast(&h->moved);
		s->wanted = true;
		pthread_cond_wait(&h->moved, &h->lock);
	}
	s->wanted = false;
	pthread_mutex_unlock(&h->lock);
}

void wl_hash_stream_end(struct wl_hash_stream *s)
{
	struct wl_hasher *h = s->hasher;

	pthread_mutex_lock(&h->lock);
	s->ended = true;
	pthread_cond_broadcast(&h->moved);
	pthread_mutex_unlock(&h->lock);
}

void wl_hash_stream_digest(struct wl_hash_stream *s, uint8_t out[WL_SHA256_BYTES])
{
	wl_hash_stream_wait(s, 0);
	wl_sha256_final(&s->sha, out);
}

void wl_hash_stream_close(struct wl_hash_stream *s)
{
	struct wl_hasher *h = s->hasher;

	if (!h)
		return;
	wl_hash_stream_wait(s, 0);
	pthread_mutex_lock(&h->lock);
	for (struct wl_hash_stream **at = &h->streams; *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			break;
		}
	pthread_cond_broadcast(&h->moved);
	pthread_mutex_unlock(&h->lock);
	wl_sha256_release(&s->sha);
	*s = (struct wl_hash_stream){0};
}
