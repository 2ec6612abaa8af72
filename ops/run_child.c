/*
 * One child process with its output copied: see child.h.
 *
 * The child gets a process group of its own, so that Ctrl-C reaches it through us once and
 * not twice (a second signal means "at once" to our programs), and dies with us even when
 * we are killed, so that no second run meets the first one's orphan.
 */
#include "ops/child.h"
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: only async-signal-safe calls. */
static noreturn void become(const char *program, const struct wl_strs *argv, const int out[2],
	const int errs[2], pid_t parent)
{
	static const char note[] = "the program cannot be executed\n";
	int null = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127); /* it died before the line above */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	dup2(null, STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	dup2(errs[1], STDERR_FILENO);
	execv(program, (char *const *)(uintptr_t)argv->v);
	if (write(STDERR_FILENO, note, sizeof note - 1) < 0)
		_exit(127);
	_exit(127);
}

static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return; /* a closed terminal must not stop the run; the log is the record */
		p += k;
		n -= (size_t)k;
	}
}

/* Copies what is there to the log and to our own descriptor; false at the end. */
static bool copy_some(int from, int log, int to)
{
	char chunk[8192];
	ssize_t n = read(from, chunk, sizeof chunk);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0)
		return false;
	write_all(log, chunk, (size_t)n);
	if (to >= 0) {
		wl_log_lock();
		write_all(to, chunk, (size_t)n);
		wl_log_unlock();
	}
	return true;
}

/* Until both pipes are at their end or the child has ended (a grandchild may keep them
 * open); a stop is passed on once. */
static int follow(pid_t pid, int out, int errs, int log, bool quiet, int *status,
	struct rusage *usage)
{
	struct pollfd fds[2] = {{.fd = out, .events = POLLIN}, {.fd = errs, .events = POLLIN}};
	bool told = false, ended = false;

	for (;;) {
		int ready;

		if (wl_stop_requested() && !told) {
			kill(-pid, SIGTERM);
			told = true;
		}
		ready = fds[0].fd < 0 && fds[1].fd < 0 ? (usleep(20000), 0) : poll(fds, 2, 100);
		for (int i = 0; i < 2 && ready > 0; i++)
			if (fds[i].fd >= 0 && fds[i].revents &&
				!copy_some(fds[i].fd, log, quiet ? -1 : i + 1))
				fds[i].fd = -1;
		if (ended && ready <= 0)
			return 0;
		if (!ended) {
			pid_t r = wait4(pid, status, WNOHANG, usage);

			if (r < 0 && errno != EINTR)
				return -1;
			ended = r == pid;
		}
		if (ended && fds[0].fd < 0 && fds[1].fd < 0)
			return 0;
	}
}

int wl_child_run(const char *program, const struct wl_strs *argv, const char *log, bool quiet,
	struct wl_child *child, struct wl_err *err)
{
	int out[2] = {-1, -1}, errs[2] = {-1, -1}, status = 0, ret = -1;
	int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	struct rusage usage = {0};
	double start = wl_now_s();
	pid_t pid, self = getpid();

	if (log_fd < 0) {
		wl_err_errno(err, "log %s cannot be opened", log);
		goto out;
	}
	if (pipe2(out, O_CLOEXEC) || pipe2(errs, O_CLOEXEC)) {
		wl_err_errno(err, "a pipe for %s cannot be made", program);
		goto out;
	}
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		wl_err_errno(err, "%s cannot be started", program);
		goto out;
	}
	if (!pid)
		become(program, argv, out, errs, self);
	setpgid(pid, pid); /* whichever of us comes first */
	close(out[1]);
	close(errs[1]);
	out[1] = errs[1] = -1;
	if (follow(pid, out[0], errs[0], log_fd, quiet, &status, &usage) < 0) {
		wl_err_errno(err, "%s cannot be waited for", program);
		goto out;
	}
	*child = (struct wl_child){
		.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
		.seconds = wl_now_s() - start,
		.cpu_seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
			1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec),
		.max_rss_bytes = (int64_t)usage.ru_maxrss * 1024, /* Linux counts in KiB */
	};
	ret = 0;
out:
	for (int i = 0; i < 2; i++) {
		if (out[i] >= 0)
			close(out[i]);
		if (errs[i] >= 0)
			close(errs[i]);
	}
	if (log_fd >= 0)
		close(log_fd);
	return ret;
}

/* dir/name when it can be executed; to be freed. */
static char *executable_in(const char *dir, size_t n, const char *name)
{
	char *path = wl_strf(NULL, "%.*s/%s", (int)n, dir, name);

	if (path && !access(path, X_OK))
		return path;
	free(path);
	return NULL;
}

char *wl_program_path(const char *name, struct wl_err *err)
{
	char exe[4096], *found = NULL;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	const char *at = getenv("PATH");

	if (strchr(name, '/')) {
		if (!access(name, X_OK))
			return wl_strf(err, "%s", name);
		wl_err_set(err, WL_EUSAGE, "program %s is missing or not executable", name);
		return NULL;
	}
	if (n > 0) {
		exe[n] = 0;
		found = executable_in(exe, (size_t)(strrchr(exe, '/') - exe), name);
	}
	for (at = at ? at : ""; *at && !found;) {
		size_t len = strcspn(at, ":");

		found = len ? executable_in(at, len, name) : NULL;
		at += len + (at[len] == ':');
	}
	if (!found)
		wl_err_set(err, WL_EUSAGE, "program %s is neither beside this one nor in PATH",
			name);
	return found;
}
