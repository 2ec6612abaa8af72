/* aic: and coco: caption files with their pictures, through wenlan-ingest and wenlan-shard. */
#include "ingest/image.h"
#include "ops/db.h"
#include "ops/file.h"
#include "shards/manifest.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PICTURES = 6 };

static struct tmp_dir tmp;
static struct wl_err err;

static int setup(void **state)
{
	char path[512];

	(void)state;
	tmp = tmp_make();
	OK(wl_mkdir_p(tmp_path(&tmp, "img/val", path), &err));
	for (int i = 0; i < PICTURES; i++) {
		struct wl_image im = {.width = 40 + i, .height = 30, .channels = 3};
		char name[64];
		struct wl_buf b;

		im.data = calloc((size_t)im.width * 30, 3);
		im.data[i * 300] = 200;
		wl_buf_init(&b, 1 << 20);
		OK(wl_image_encode_jpeg(&im, 90, &b, &err));
		for (int k = 0; k < 2; k++) {
			snprintf(name, sizeof name, "img/%sp%d.jpg", k ? "val/" : "", i);
			tmp_write_bytes(tmp_path(&tmp, name, path), b.data, b.len);
		}
		wl_buf_release(&b);
		free(im.data);
	}
	assert_int_equal(tmp_run(NULL, "cd %s/img && tar cf ../img.tar *.jpg", tmp.path), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

/* Runs wenlan-ingest on a fresh corpus; its exit code. */
static int ingest(char **out, const char *spec)
{
	char corpus[512], here[512];

	assert_non_null(realpath(tmp_bin(), here));
	OK(wl_remove_tree(tmp_path(&tmp, "c", corpus), &err));
	return tmp_run(out,
		"cd %s && %s/wenlan-ingest --corpus c --workers 2 --max-error-rate 1 "
		"'%s'",
		tmp.path, here, spec);
}

/* One value of the corpus's only partition. */
static char *value(const char *sql)
{
	static char text[4096];
	struct wl_db db = {0};
	sqlite3_stmt *st;
	char path[512];

	OK(wl_db_open(&db, tmp_path(&tmp, "c/part-00000/catalog.db", path), WL_DB_READ, &err));
	OK(wl_db_prepare(&db, &st, sql, &err));
	OK(wl_db_step(&db, st, &err));
	snprintf(text, sizeof text, "%s",
		sqlite3_column_text(st, 0) ? (const char *)sqlite3_column_text(st, 0) : "");
	sqlite3_finalize(st);
	wl_db_close(&db);
	return text;
}

static const char aic[] = "[{\"url\":\"http://a.cn/"
			  "0\",\"image_id\":\"p0.jpg\",\"caption\":[\"一只猫。\",\"\",\"猫 \\n\"]},"
			  "{\"image_id\":\"p1.jpg\",\"caption\":[\"两条狗\"]},"
			  "{\"image_id\":\"p2.jpg\",\"caption\":\"不是列表\"},"
			  "{\"image_id\":\"gone.jpg\",\"caption\":[\"没有图\"]},"
			  "{\"image_id\":\"p3.jpg\",\"caption\":[\"\",\" \"]},"
			  "[7],"
			  "{\"image_id\":\"p4.jpg\",\"caption\":[\"五\",\"六\"]}]";

static void check_aic(const char *spec, const char *split)
{
	char *out, sql[256];
	int rc = ingest(&out, spec);

	if (rc)
		fail_msg("%s: %d: %s", spec, rc, out);
	free(out);
	assert_string_equal(value("SELECT count(*) FROM pair"), "3");
	snprintf(sql, sizeof sql, "SELECT count(*) FROM pair WHERE split_hint='%s'", split);
	assert_string_equal(value(sql), "3");
	assert_string_equal(value("SELECT texts FROM pair WHERE width=40"),
		"[[\"caption\",\"一只猫。\"],[\"caption\",\"猫 \\n\"]]");
	assert_string_equal(value("SELECT count(*) FROM quarantine"), "4");
	assert_non_null(strstr(value("SELECT reason FROM quarantine WHERE position='item 3'"),
		"no list of captions"));
	assert_non_null(
		strstr(value("SELECT reason FROM quarantine WHERE position='item 4'"), "gone.jpg"));
	assert_non_null(
		strstr(value("SELECT reason FROM quarantine WHERE position='item 5'"), "text"));
	assert_non_null(strstr(value("SELECT reason FROM quarantine WHERE position='item 6'"),
		"wrong annotation"));
}

static void test_aic(void **state)
{
	char path[512];

	(void)state;
	tmp_write(tmp_path(&tmp, "caption_validation_annotations_20170910.json", path), aic);
	check_aic("aic:caption_validation_annotations_20170910.json?images=img", "val");
	check_aic("aic:caption_validation_annotations_20170910.json?images=img.tar", "val");
	check_aic("aic:caption_validation_annotations_20170910.json?images=img&split=test", "test");
	tmp_write(tmp_path(&tmp, "caption_train_annotations_20170902.json", path), aic);
	check_aic("aic:caption_train_annotations_20170902.json?images=img", "train");
}

static void test_coco(void **state)
{
	char path[512], *out;

	(void)state;
	tmp_write(tmp_path(&tmp, "captions_val2014.json", path),
		"{\"images\":[{\"id\":9,\"file_name\":\"p0.jpg\"},{\"id\":8,\"file_name\":\"p1."
		"jpg\"}],"
		"\"annotations\":[{\"image_id\":8,\"id\":1,\"caption\":\"a dog\"},"
		"{\"image_id\":9,\"id\":2,\"caption\":\"a cat\"},"
		"{\"image_id\":8,\"id\":3,\"caption\":\"two dogs\"},"
		"{\"image_id\":5,\"id\":4,\"caption\":\"nothing\"}]}");
	assert_int_equal(ingest(NULL, "coco:captions_val2014.json?images=img"), 0);
	assert_string_equal(value("SELECT count(*) FROM pair WHERE split_hint='val'"), "2");
	assert_string_equal(value("SELECT texts FROM pair WHERE width=41"),
		"[[\"caption\",\"a dog\"],[\"caption\",\"two dogs\"]]");
	assert_non_null(strstr(
		value("SELECT reason FROM quarantine WHERE position='annotation 1'"), "its image"));
	tmp_write(tmp_path(&tmp, "dataset_coco.json", path),
		"{\"dataset\":\"coco\",\"images\":["
		"{\"filename\":\"p0.jpg\",\"filepath\":\"val\",\"imgid\":0,\"split\":\"restval\","
		"\"sentences\":[{\"raw\":\"one\"},{\"raw\":\"two\"}]},"
		"{\"filename\":\"p1.jpg\",\"filepath\":\"val\",\"imgid\":1,\"split\":\"test\","
		"\"sentences\":[{\"raw\":\"three\"}]}]}");
	assert_int_equal(ingest(NULL, "coco:dataset_coco.json?images=img"), 0);
	assert_string_equal(value("SELECT split_hint FROM pair WHERE width=40"), "train");
	assert_string_equal(value("SELECT split_hint FROM pair WHERE width=41"), "test");
	/* Files that are not what they are called. */
	assert_int_equal(ingest(&out, "aic:dataset_coco.json?images=img"), 3);
	assert_non_null(strstr(out, "is it a coco: file?"));
	free(out);
	tmp_write(tmp_path(&tmp, "broken.json", path), "{\"images\":[");
	assert_int_equal(ingest(&out, "coco:broken.json?images=img"), 3);
	assert_non_null(strstr(out, "broken.json"));
	free(out);
	assert_int_equal(ingest(&out, "coco:dataset_coco.json?images=img&split=dev"), 2);
	assert_non_null(strstr(out, "expected train, val or test"));
	free(out);
}

/* Two files make the two splits of one shard set; a second run of the same adds nothing. */
static void test_splits(void **state)
{
	char path[512];
	struct wl_manifest m;
	const char *bin = tmp_bin();
	char here[512];

	(void)state;
	assert_non_null(realpath(bin, here));
	tmp_write(tmp_path(&tmp, "train.json", path),
		"[{\"image_id\":\"p0.jpg\",\"caption\":[\"一\"]},{\"image_id\":\"p1.jpg\","
		"\"caption\":[\"二\"]}]");
	tmp_write(tmp_path(&tmp, "val.json", path),
		"[{\"image_id\":\"p2.jpg\",\"caption\":[\"三\"]}]");
	OK(wl_remove_tree(tmp_path(&tmp, "c", path), &err));
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			tmp_run(NULL,
				"cd %s && %s/wenlan-ingest --corpus c 'aic:train.json?images=img' "
				"'aic:val.json?images=img'",
				tmp.path, here),
			0);
	assert_int_equal(
		tmp_run(NULL, "cd %s && %s/wenlan-shard --corpus c --out s --allow-unfiltered",
			tmp.path, here),
		0);
	OK(wl_manifest_read(&m, tmp_path(&tmp, "s", path), &err));
	assert_int_equal(m.n, 2);
	assert_string_equal(m.shards[0].split, "train");
	assert_int_equal(m.shards[0].samples, 2);
	assert_string_equal(m.shards[1].split, "val");
	assert_int_equal(m.shards[1].samples, 1);
	wl_manifest_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_aic), cmocka_unit_test(test_coco),
		cmocka_unit_test(test_splits)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
