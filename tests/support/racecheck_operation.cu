/* See racecheck_parts.h.  Tensors of a graph share one allocation, so what is out of bounds there
 * depends on the operation. */
#include "tests/support/emulated.h"

#include <memory>
#include <vector>

#include "tests/support/racecheck_parts.h"
#include "train/backend/cuda/cuda.h"

/* Of an operation: what its work may touch in the allocations where its operands lie, and what has
 * no content when its work begins. */
struct operation {
	std::vector<struct range> operands, homes, fresh;
	bool begun;
};
static thread_local std::shared_ptr<struct operation> operation;
static const struct operation *within;
static struct range permitted; /* found last */

bool race_permits(uintptr_t a, size_t n, struct range allocation)
{
	if (!within || (in(permitted, a) && in(permitted, a + n - 1)))
		return true;
	for (const struct range &r : within->operands)
		if (in(r, a) && in(r, a + n - 1)) {
			permitted = r;
			return true;
		}
	for (const struct range &r : within->homes)
		if (in(r, a))
			return false;
	permitted = allocation;
	return true;
}

static bool overlap(struct range a, struct range b)
{
	return a.begin < b.end && b.begin < a.end;
}

static void add_operand(struct operation *o, struct range r)
{
	emulated_enter(); /* others allocate */
	struct range home = race_home(r.begin);
	emulated_leave();

	o->operands.push_back(r);
	if (in(home, r.begin))
		o->homes.push_back(home);
}

extern "C" void race_operation(const struct wl_op *op, const struct wl_run *run)
{
	operation.reset();
	if (!op)
		return;
	operation = std::make_shared<struct operation>();
	struct operation *o = operation.get();
	for (int i = 0; i < WL_OP_IN; i++)
		if (op->in[i] && op->in[i]->data)
			add_operand(o, range_of(op->in[i]->data, wl_tensor_bytes(op->in[i])));
	size_t inputs = o->operands.size();
	for (int i = 0; i < WL_OP_OUT; i++) {
		if (!op->out[i] || !op->out[i]->data)
			continue;
		struct range r = range_of(op->out[i]->data, wl_tensor_bytes(op->out[i]));
		bool fresh = !i && !(op->acc & 1); /* others may be kept from a forward pass */

		for (size_t k = 0; k < inputs; k++)
			fresh = fresh && !overlap(r, o->operands[k]);
		add_operand(o, r);
		if (fresh)
			o->fresh.push_back(r);
	}
	if (op->scratch_bytes) {
		add_operand(o, range_of(run->scratch, op->scratch_bytes));
		o->fresh.push_back(o->operands.back());
	}
}

static void forget_content(const struct operation *o)
{
	for (const struct range &r : o->fresh)
		race_forget(r);
}

std::function<void()> race_work(std::function<void()> work)
{
	std::shared_ptr<struct operation> o = operation;

	if (!o)
		return work;
	bool first = !o->begun;
	o->begun = true;
	return [=] {
		if (first)
			forget_content(o.get());
		within = o.get();
		permitted = range_of(NULL, 0);
		work();
		within = NULL;
	};
}

