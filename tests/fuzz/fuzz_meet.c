/* Any bytes as each of the messages that ranks get from the network, as a meeting's notice and as
 * its place: refused with a sentence, or read to something within bounds that is written back to
 * the same bytes. */
#include "ops/comm_wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check(int ret, const struct wl_err *err)
{
	if (ret < 0 && (!err->code || !*err->msg))
		abort();
}

static void greetings(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	uint8_t again[COMM_HELLO_BYTES];
	struct comm_hello h;
	struct comm_frame f;
	char why[COMM_ANSWER_BYTES];
	int ret;

	if (n >= COMM_HELLO_BYTES) {
		ret = comm_hello_read(bytes, &h, &err);
		check(ret, &err);
		if (ret == 0) {
			comm_hello_write(&h, again);
			if (memcmp(bytes, again, sizeof again) || h.rank >= h.world)
				abort();
		}
	}
	if (n >= COMM_FRAME_BYTES)
		check(comm_frame_read(bytes, &f, &err), &err);
	if (n >= COMM_ANSWER_BYTES) {
		check(comm_answer_read(bytes, why, &err), &err);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct comm_notice notice;
	struct comm_place places[8];
	uint8_t key[COMM_KEY];
	struct comm_where w;
	char text[400];
	size_t len = n < sizeof text - 1 ? n : sizeof text - 1;

	greetings(bytes, n);
	for (int world = 2; world <= 8; world += 3)
		check(comm_table_read(bytes, n, world, places, key, &err), &err);
	if (comm_notice_read((const char *)bytes, n, "notice", &notice, &err) == 0 &&
		(notice.n < 1 || notice.n > COMM_NOTICE_PLACES || notice.world < 2))
		abort();
	memcpy(text, bytes, len);
	text[len] = 0;
	check(comm_where_read(text, &w, &err), &err);
	return 0;
}
