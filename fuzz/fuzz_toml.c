/* SPDX-License-Identifier: ISC */
/* wherry.toml: any bytes, none behind the end is read. */
#include <stdlib.h>
#include <string.h>

#include "../src/cli/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct toml *v)
{
	for (struct toml *i = v->first; i; i = i->next) {
		if (v->type == TOML_TABLE && (!i->key || toml_get(v, i->key) != i))
			abort(); /* keys are unique */
		if (i->type == TOML_STRING && !i->text)
			abort();
		walk(i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct toml *root = NULL;
	struct wh_diag diag;
	char *text = malloc(size ? size : 1);
	if (size > 4096) /* looking for each key again is quadratic */
		size = 4096;
	memcpy(text, data, size);
	if (!toml_parse(text, size, &root, &diag)) {
		walk(root);
		if (toml_untaken(root))
			abort();
		toml_free(root);
	}
	free(text);
	return 0;
}
