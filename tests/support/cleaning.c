/* See cleaning.h. */
#include "tests/support/cleaning.h"

#include "tests/support/cm.h"

struct wl_text *tx;

int open_text(void **state)
{
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	tx = wl_text_open(&err);
	if (!tx)
		print_error("%s\n", err.msg);
	return tx ? 0 : -1;
}

int close_text(void **state)
{
	(void)state;
	wl_text_close(tx);
	tx = NULL;
	return 0;
}

struct wl_rules *rules_of(const struct tmp_dir *tmp, const char *yaml)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_rules *r;
	char path[512];

	tmp_write(tmp_path(tmp, "rules.yaml", path), yaml);
	r = wl_rules_load(path, tx, &err);
	if (!r)
		fail_msg("%s", err.msg);
	return r;
}
