/* See webrig.h. */
#include "tests/support/webrig.h"

#include "ops/buf.h"
#include "tests/support/cm.h"

#include <string.h>

int web_rig_start(void **state)
{
	static struct web_rig rig;

	rig.tmp = tmp_make();
	rig.web = httpd_start();
	*state = &rig;
	return 0;
}

int web_rig_stop(void **state)
{
	struct web_rig *rig = *state;

	httpd_stop(&rig->web);
	tmp_remove(&rig->tmp);
	return 0;
}

void web_list(const struct web_rig *rig, const char *name, int port, const char *lines)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;
	char p[512];

	wl_buf_init(&b, 1 << 20);
	for (const char *s = lines; *s;) {
		size_t n = strcspn(s, "\n");

		OK(wl_buf_printf(&b, &err, "http://127.0.0.1:%d%.*s\n", port, (int)n, s));
		s += n + (s[n] == '\n');
	}
	tmp_write_bytes(tmp_path(&rig->tmp, name, p), b.data, b.len);
	wl_buf_release(&b);
}
