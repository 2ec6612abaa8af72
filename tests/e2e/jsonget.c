/* jsonget FILE KEY...: prints the value at that path of a JSON file, for the shell scripts. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	json_error_t e;
	json_t *root = argc > 1 ? json_load_file(argv[1], 0, &e) : NULL;
	json_t *v = root;
	char *text;

	if (!root) {
		fprintf(stderr, "jsonget: %s\n", argc > 1 ? e.text : "usage: jsonget FILE KEY...");
		return 2;
	}
	for (int i = 2; i < argc && v; i++)
		v = json_is_array(v) ? json_array_get(v, (size_t)atol(argv[i]))
				     : json_object_get(v, argv[i]);
	if (!v) {
		fprintf(stderr, "jsonget: %s has no such key\n", argv[1]);
		json_decref(root);
		return 1;
	}
	text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
	puts(text ? text : json_string_value(v));
	free(text);
	json_decref(root);
	return 0;
}
