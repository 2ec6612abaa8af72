/* A whole file mapped for reading.  See mapped.h. */
#include "ops/mapped.h"
#include "ops/path.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int wl_mapped_open(struct wl_mapped *m, const char *path, struct wl_err *err)
{
	struct stat st;
	int fd, ret = -1;
	void *p;

	*m = (struct wl_mapped){0};
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return wl_path_failed(path, "opened", NULL, err);
	if (fstat(fd, &st) < 0) {
		wl_err_errno(err, "%s cannot be examined", path);
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		wl_err_set(err, WL_ECKPT, "%s is a directory, a device or a pipe, and a plain "
			"file is expected; name one", path);
		goto out;
	}
	if (st.st_size > 0) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED) {
			wl_err_errno(err, "%s cannot be mapped", path);
			goto out;
		}
		m->data = p;
		m->size = (size_t)st.st_size;
	}
	ret = 0;
out:
	close(fd);
	return ret;
}

void wl_mapped_close(struct wl_mapped *m)
{
	if (m->data)
		munmap((void *)(uintptr_t)m->data, m->size);
	*m = (struct wl_mapped){0};
}
