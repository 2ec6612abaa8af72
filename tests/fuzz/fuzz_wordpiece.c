/* Any bytes as a caption: ids in range, [CLS] first, [SEP] last, padding behind, and a shorter
 * limit gives a prefix. */
#include "clean/wordpiece.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char text[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##a\nab\n##b\n中\n国\n##国\n.\n"
				   "##σ\nσ\n##ς\nк\n";
	static struct wl_vocab *v;
	int32_t ids[96], cut[8];
	size_t used, used_cut;

	if (!v)
		v = wl_vocab_parse(text, sizeof(text) - 1, "fuzz", NULL);
	used = wl_wordpiece(v, (const char *)data, n, ids, 96);
	used_cut = wl_wordpiece(v, (const char *)data, n, cut, 8);
	if (used < 2 || used > 96 || ids[0] != 2 || ids[used - 1] != 3)
		abort();
	for (size_t i = 0; i < 96; i++)
		if (!wl_vocab_token(v, ids[i]) || (i >= used && ids[i] != 0))
			abort();
	if (used_cut != (used < 8 ? used : 8))
		abort();
	return 0;
}
