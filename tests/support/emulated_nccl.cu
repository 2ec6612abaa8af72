/*
 * NCCL between threads of one process, for tests of what calls it: every rank is a thread, a
 * collective is done when all have come, in the order of ranks.
 */
#include "train/backend/cuda/nccl.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { RANKS = 16, MEETINGS = 64 };

struct meeting {
	char id[WL_WIRE_ID];
	int world;
	int come;
	long turn;
	const void *in[RANKS];
};

struct rank {
	struct meeting *m;
	int rank;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct meeting meetings[MEETINGS];
static int made, failure;
static int64_t asked;

extern "C" void emulated_nccl_fails(int code)
{
	failure = code;
}

/* How often the library was asked whether all is well, from any thread. */
extern "C" int64_t emulated_nccl_asked(void)
{
	return __atomic_load_n(&asked, __ATOMIC_SEQ_CST);
}

/* All ranks of the meeting come here before any goes on. */
static void all_come(struct meeting *m)
{
	pthread_mutex_lock(&lock);
	long turn = m->turn;

	if (++m->come == m->world) {
		m->come = 0;
		m->turn++;
		pthread_cond_broadcast(&changed);
	}
	while (m->turn == turn)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static int get_id(struct nccl_id *id)
{
	memset(id, 0, sizeof *id);
	pthread_mutex_lock(&lock);
	snprintf(id->internal, sizeof id->internal, "meeting %d", made++);
	pthread_mutex_unlock(&lock);
	return NCCL_OK;
}

static int init(void **comm, int world, struct nccl_id id, int number)
{
	struct rank *r = new struct rank;
	struct meeting *m = &meetings[atoi(id.internal + strlen("meeting ")) % MEETINGS];

	pthread_mutex_lock(&lock);
	if (strcmp(m->id, id.internal)) {
		memset(m, 0, sizeof *m);
		memcpy(m->id, id.internal, sizeof m->id);
	}
	m->world = world;
	pthread_mutex_unlock(&lock);
	r->m = m;
	r->rank = number;
	*comm = r;
	all_come(m);
	return NCCL_OK;
}

/* The library waits there until no graph refers to the communicator: for ever, if who destroys the
 * graphs waits for it. */
static int destroy(void *comm)
{
	if (emulated_holds(comm)) {
		fprintf(stderr, "emulated: ncclCommDestroy before the graphs that it is in\n");
		abort();
	}
	delete (struct rank *)comm;
	return NCCL_OK;
}

static int give_up(void *comm)
{
	delete (struct rank *)comm;
	return NCCL_OK;
}

static int async_error(void *, int *code)
{
	*code = failure;
	__atomic_fetch_add(&asked, 1, __ATOMIC_SEQ_CST);
	return NCCL_OK;
}

static const char *text(int)
{
	return "remote process exited or there was a network error";
}

/* Elements [from, from + n) of all ranks' arrays, summed in the order of ranks. */
template <typename T> static T *sums(struct rank *r, size_t from, size_t n, int op)
{
	T *s = new T[n + 1]();

	emulated_enter();
	for (int k = 0; k < r->m->world; k++)
		for (size_t i = 0; i < n; i++)
			s[i] += ((const T *)r->m->in[k])[from + i];
	emulated_leave();
	for (size_t i = 0; op == NCCL_AVG && i < n; i++)
		s[i] *= (T)1 / (T)r->m->world;
	return s;
}

template <typename T>
static void reduce(const void *in, void *out, size_t from, size_t n, int op, struct rank *r)
{
	r->m->in[r->rank] = in;
	all_come(r->m);
	T *s = sums<T>(r, from, n, op);
	all_come(r->m); /* all have read */
	emulated_enter();
	memcpy(out, s, n * sizeof *s);
	emulated_leave();
	delete[] s;
}

static int all_reduce(const void *in, void *out, size_t n, int type, int op, void *comm,
	cudaStream_t stream)
{
	struct rank *r = (struct rank *)comm;

	emulated_on(stream);
	emulated_meet([=] {
		if (type == NCCL_F64)
			reduce<double>(in, out, 0, n, op, r);
		else
			reduce<float>(in, out, 0, n, op, r);
	}, comm);
	return NCCL_OK;
}

static int reduce_scatter(const void *in, void *out, size_t n, int, int op, void *comm,
	cudaStream_t stream)
{
	struct rank *r = (struct rank *)comm;

	emulated_on(stream);
	emulated_meet([=] { reduce<float>(in, out, (size_t)r->rank * n, n, op, r); }, comm);
	return NCCL_OK;
}

static void gather(const void *in, void *out, size_t bytes, struct rank *r)
{
	r->m->in[r->rank] = in;
	all_come(r->m);
	emulated_enter();
	for (int k = 0; k < r->m->world; k++)
		memmove((char *)out + (size_t)k * bytes, r->m->in[k], bytes);
	emulated_leave();
	all_come(r->m);
}

static int all_gather(const void *in, void *out, size_t n, int type, void *comm,
	cudaStream_t stream)
{
	struct rank *r = (struct rank *)comm;
	size_t bytes = n * (type == NCCL_U8 ? 1 : sizeof(float));

	emulated_on(stream);
	emulated_meet([=] { gather(in, out, bytes, r); }, comm);
	return NCCL_OK;
}

extern "C" int wl_cuda_nccl_load(struct nccl_library *lib, struct wl_err *)
{
	lib->get_id = get_id;
	lib->init = init;
	lib->destroy = destroy;
	lib->abort = give_up;
	lib->async_error = async_error;
	lib->text = text;
	lib->all_reduce = all_reduce;
	lib->reduce_scatter = reduce_scatter;
	lib->all_gather = all_gather;
	return 0;
}
