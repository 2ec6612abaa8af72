#include "tests/support/archives.h"

#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>

void archives_add(struct archive *a, const char *name, const void *bytes, size_t n)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, name);
	archive_entry_set_size(e, (la_int64_t)n);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	assert_int_equal(archive_write_data(a, bytes, n), (la_ssize_t)n);
	archive_entry_free(e);
}

struct archive *archives_tar(const char *path, bool gzip)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	if (gzip)
		archive_write_add_filter_gzip(a);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	return a;
}

struct archive *archives_zip(const char *path, bool deflate)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_zip(a);
	if (!deflate)
		archive_write_zip_set_compression_store(a);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	return a;
}

void archives_close(struct archive *a)
{
	assert_int_equal(archive_write_free(a), ARCHIVE_OK);
}

void archives_compress(const char *from, const char *to, bool zstd)
{
	size_t n;
	char *bytes = tmp_read(from, &n);
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();

	archive_write_set_format_raw(a);
	if (zstd)
		archive_write_add_filter_zstd(a);
	else
		archive_write_add_filter_gzip(a);
	assert_int_equal(archive_write_open_filename(a, to), ARCHIVE_OK);
	archive_entry_set_filetype(e, AE_IFREG);
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	assert_int_equal(archive_write_data(a, bytes, n), (la_ssize_t)n);
	archive_entry_free(e);
	assert_int_equal(archive_write_free(a), ARCHIVE_OK);
	free(bytes);
}
