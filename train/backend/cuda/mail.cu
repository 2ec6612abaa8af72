/*
 * Uploads that nobody waits for: the host's bytes are put into pinned memory, from where the device
 * fetches them in the stream's order.  The pinned memory is a ring of four parts; before a part is
 * written again the host waits for what was sent from it, which is long done once a part holds
 * more than a step sends.  It grows in the first steps and stays.
 */
#include "train/backend/cuda/cuda.h"

enum { PARTS = 4 };
static const size_t LEAST = (size_t)1 << 20; /* bytes of a part */
/* What is larger is copied from where it is, and waited for: pictures made on the host. */
static const size_t MOST = (size_t)64 << 20;

struct cuda_mail {
	char *ring;
	size_t part, used; /* bytes of a part, and used of the present one */
	int at;
	cudaEvent_t sent[PARTS];
	bool full[PARTS]; /* sent[] stands for its bytes */
};

void wl_cuda_mail_close(struct cuda *c)
{
	struct cuda_mail *m = c->mail;

	if (!m)
		return;
	cudaStreamSynchronize(c->stream);
	if (m->ring)
		cudaFreeHost(m->ring);
	for (int i = 0; i < PARTS; i++)
		if (m->sent[i])
			cudaEventDestroy(m->sent[i]);
	free(m);
	c->mail = NULL;
}

/* Parts of at least four such pieces. */
static bool grow(struct cuda *c, size_t bytes)
{
	struct cuda_mail *m = c->mail;
	size_t part = m->part ? m->part : LEAST;

	while (part < 4 * bytes)
		part *= 2;
	cudaStreamSynchronize(c->stream); /* what is under way leaves the old ring */
	if (m->ring)
		cudaFreeHost(m->ring);
	m->ring = NULL;
	m->part = m->used = 0;
	m->at = 0;
	memset(m->full, 0, sizeof m->full);
	for (int i = 0; i < PARTS; i++)
		if (!m->sent[i] && cudaEventCreateWithFlags(
					   &m->sent[i], cudaEventDisableTiming) != cudaSuccess)
			return false;
	if (cudaMallocHost((void **)&m->ring, PARTS * part) != cudaSuccess) {
		cudaGetLastError(); /* uploads go the slow way */
		m->ring = NULL;
		return false;
	}
	m->part = part;
	return true;
}

/* The next bytes of the ring, NULL where there are none to be had. */
static char *take(struct cuda *c, size_t bytes)
{
	struct cuda_mail *m = c->mail;
	size_t whole = cuda_round(bytes);
	char *p;

	if (4 * whole > m->part && !grow(c, whole))
		return NULL;
	if (m->used + whole > m->part) {
		if (cudaEventRecord(m->sent[m->at], c->stream) != cudaSuccess)
			return NULL;
		m->full[m->at] = true;
		m->at = (m->at + 1) % PARTS;
		if (m->full[m->at] && cudaEventSynchronize(m->sent[m->at]) != cudaSuccess)
			return NULL;
		m->full[m->at] = false;
		m->used = 0;
	}
	p = m->ring + (size_t)m->at * m->part + m->used;
	m->used += whole;
	return p;
}

static bool on_device(const void *p)
{
	struct cudaPointerAttributes a;

	if (cudaPointerGetAttributes(&a, p) != cudaSuccess) {
		cudaGetLastError(); /* a plain host pointer, to an old driver */
		return false;
	}
	return a.type == cudaMemoryTypeDevice || a.type == cudaMemoryTypeManaged;
}

void wl_cuda_send(struct wl_backend *be, void *dst, const void *src, size_t bytes)
{
	struct cuda *c = (struct cuda *)be->impl;
	char *pinned = NULL;

	if (!bytes)
		return;
	if (on_device(src)) {
		be->copy(be, dst, 0, src, 0, bytes, 1);
		return;
	}
	if (!c->mail)
		c->mail = (struct cuda_mail *)calloc(1, sizeof *c->mail);
	if (c->mail && bytes <= MOST)
		pinned = take(c, bytes);
	if (!pinned) {
		be->upload(be, dst, src, bytes);
		return;
	}
	memcpy(pinned, src, bytes);
	be->copy(be, dst, 0, pinned, 0, bytes, 1);
}
