/* Inside the loader: what loader.c (the ring at work) and loader_open.c share. */
#ifndef WL_LOADER_LOADER_PRIV_H
#define WL_LOADER_LOADER_PRIV_H

#include "loader/order.h"
#include "loader/worker.h"
#include "ops/arena.h"

#include <pthread.h>

enum { WL_NOTE_BYTES = 320 };

struct wl_note { /* why a row lost its sample */
	bool bad, absent; /* absent: no sample at all (short batch, or bad without shuffle) */
	char text[WL_NOTE_BYTES];
};

struct wl_slot {
	struct wl_batch b;
	struct wl_note *notes;     /* [batch] */
	struct wl_texts *texts; /* [batch] */
	int64_t rows_done;
	struct wl_err fatal;    /* code WL_OK: none */
	bool lent;              /* the areas are of o.memory */
};

struct wl_hand { /* a thread and its tools */
	struct wl_loader *l;
	struct wl_worker *w;
	pthread_t thread;
};

struct wl_loader {
	struct wl_loader_opts o;
	struct wl_shardset *shards;
	struct wl_arena arena;
	char *dir, *split;
	struct wl_order order;
	struct wl_slot *slots;
	int64_t n_slots, hold;
	struct wl_hand *hands; /* [n_threads] */
	int n_threads, started;

	pthread_mutex_t lock;
	pthread_cond_t room, ready, idle;
	/* Under the lock; batches count from the last seek. */
	int64_t next_row;  /* next to hand out: batch * o.batch + row */
	int64_t given;     /* batches given to the consumer */
	int64_t released;  /* batches whose slot may be filled again */
	int64_t in_flight; /* rows being worked on */
	bool paused, stopping;
	int64_t base_epoch, base_position; /* of batch 0 */
	struct wl_loader_stats stats;
	struct wl_worker_times times;
	/* The consumer's own. */
	int64_t named, skipped_before; /* bad samples before the last seek */
};

/* A thread's life; arg: its struct wl_hand. */
void *wl_loader_work(void *arg);

#endif
