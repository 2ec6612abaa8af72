/* What ranks without MPI read and say (ops/comm_meet, comm_wire): places, notices in a directory,
 * messages; damaged ones are named.  Their meetings: test_meet.c. */
#include "ops/comm_mesh.h"
#include "ops/comm_wire.h"
#include "tests/support/cm.h"

#include <string.h>

static struct wl_err err;

static void places_are_read(void **state)
{
	static const char *const bad[] = {"", "tcp://", "tcp://host", "tcp://host:", "tcp://:1",
		"tcp://host:0", "tcp://host:65536", "tcp://host:12x", "tcp://::1:80", "tcp://[::1]",
		"tcp://[::1]80", "file:", "http://host:1", "tcp://h:-1", "tcp://h:+1"};
	struct comm_where w;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		FAILS(WL_EUSAGE, "expected tcp://", comm_where_read(bad[i], &w, &err));
	OK(comm_where_read("tcp://[fe::1]:4711", &w, &err));
	assert_string_equal(w.name, "fe::1");
	assert_string_equal(w.port, "4711");
	OK(comm_where_read("file:///a/b", &w, &err));
	assert_true(w.file);
	assert_string_equal(w.name, "/a/b");
	OK(comm_where_read("file:c", &w, &err));
	assert_string_equal(w.name, "c");
}

static void damaged_notices_are_named(void **state)
{
	static const char *const bad[] = {"", "hello\n", "wenlan meeting 1\n",
		"wenlan meeting 1\nworld 2\nplace 1.2.3 5\n", "wenlan meeting 1\nworld 1\n",
		"wenlan meeting 1\nrun abc\n", "wenlan meeting 1\nworld 2", "wenlan meeting 1\nx\n",
		"wenlan meeting 1\nworld 2\nplace 1.2.3.4 70000\n",
		"wenlan meeting 1\nplace 1.2.3.4 1\n"};
	struct comm_notice n;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		FAILS(WL_EDATA, "NOTE", comm_notice_read(bad[i], strlen(bad[i]), "NOTE", &n, &err));
}

static void messages_keep_their_numbers(void **state)
{
	struct comm_hello h = {COMM_TO_NEIGHBOUR, 4096, 4095, 65535, {1, 2}, {3}}, g;
	struct comm_frame f = {COMM_GATHER, (uint64_t)1 << 63, 1234567890123}, e;
	struct comm_place p[3], q[3];
	uint8_t bytes[COMM_HELLO_BYTES], frame[COMM_FRAME_BYTES], key[COMM_KEY] = {9}, k[COMM_KEY];
	uint8_t table[COMM_TABLE_HEAD + 3 * COMM_ENTRY_BYTES];

	(void)state;
	comm_hello_write(&h, bytes);
	OK(comm_hello_read(bytes, &g, &err));
	assert_true(g.kind == h.kind && g.world == h.world && g.rank == h.rank && g.port == h.port);
	assert_memory_equal(h.key, g.key, sizeof h.key);
	assert_memory_equal(h.host, g.host, sizeof h.host);
	comm_frame_write(&f, frame);
	OK(comm_frame_read(frame, &e, &err));
	assert_true(f.kind == e.kind && f.number == e.number && f.bytes == e.bytes);
	frame[0]++;
	FAILS(WL_EFAIL, "no message", comm_frame_read(frame, &e, &err));
	memset(p, 0, sizeof p);
	memset(q, 0, sizeof q);
	p[1] = (struct comm_place){true, 65535, {3}, {4}};
	p[2].port = 7;
	comm_table_write(p, 3, key, table);
	OK(comm_table_read(table, sizeof table, 3, q, k, &err));
	for (int r = 0; r < 3; r++) {
		assert_true(p[r].v6 == q[r].v6 && p[r].port == q[r].port);
		assert_memory_equal(p[r].at, q[r].at, 16);
		assert_memory_equal(p[r].host, q[r].host, COMM_HOST);
	}
	assert_memory_equal(key, k, sizeof key);
	table[60] ^= 4;
	FAILS(WL_EDATA, "damaged", comm_table_read(table, sizeof table, 3, q, k, &err));
	FAILS(WL_EDATA, "damaged", comm_table_read(table, sizeof table - 1, 3, q, k, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_are_read),
		cmocka_unit_test(damaged_notices_are_named),
		cmocka_unit_test(messages_keep_their_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
