/* SPDX-License-Identifier: ISC */
/*
 * main() for fuzz targets where libFuzzer is not linked: replays files and folders,
 * and can mutate them a fixed number of times with a fixed seed.
 *
 *	fuzz-x corpus/x                      replay
 *	fuzz-x --mutate COUNT [--seed N] corpus/x
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_SIZE_MAX (1u << 20)
#define INPUTS_MAX 4096u

static struct input {
	uint8_t *data;
	size_t size;
} inputs[INPUTS_MAX];
static unsigned input_count;

static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = test_guarded(size); /* reading past the end faults */
	memcpy(copy, data, size);
	(void)LLVMFuzzerTestOneInput(copy, size); /* always 0 by contract */
	test_guarded_free(copy, size);
}

static void load(const char *path)
{
	struct stat st;
	if (stat(path, &st))
		perror(path), exit(1);
	if (S_ISDIR(st.st_mode)) {
		DIR *d = opendir(path);
		for (struct dirent *e; d && (e = readdir(d));) {
			char name[4096];
			if (e->d_name[0] == '.')
				continue;
			snprintf(name, sizeof name, "%s/%s", path, e->d_name);
			load(name);
		}
		if (d)
			closedir(d);
		return;
	}
	FILE *f = fopen(path, "rb");
	if (!f || input_count == INPUTS_MAX)
		perror(path), exit(1);
	struct input *in = &inputs[input_count++];
	in->data = malloc(INPUT_SIZE_MAX);
	in->size = fread(in->data, 1, INPUT_SIZE_MAX, f);
	fclose(f);
}

/* Flips, overwrites with edge values, cuts, repeats: enough to leave the paths
 * that the corpus takes. */
static size_t mutate(uint8_t *b, size_t size, size_t max, uint64_t *state)
{
	static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x10 };
	unsigned steps = 1 + wh_random_next(state) % 6;
	while (steps--) {
		uint64_t r = wh_random_next(state);
		size_t at = size ? (r >> 8) % size : 0;
		switch (r % 6) {
		case 0:
			if (size)
				b[at] ^= (uint8_t)(1u << ((r >> 40) & 7));
			break;
		case 1:
			if (size)
				b[at] = edges[(r >> 40) & 7];
			break;
		case 2:
			size = at;
			break;
		case 3:
			if (size < max)
				b[size++] = (uint8_t)(r >> 40);
			break;
		case 4: {
			size_t n = (r >> 40) % 64;
			if (at + n <= size && size + n <= max) {
				memcpy(b + size, b + at, n);
				size += n;
			}
			break;
		}
		default:
			for (size_t i = at; i < size && i < at + 4; i++)
				b[i] = edges[(r >> (40 + i % 8)) & 7];
		}
	}
	return size;
}

int main(int argc, char **argv)
{
	unsigned long count = 0;
	uint64_t state = test_seed();
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--mutate") && i + 1 < argc)
			count = strtoul(argv[++i], 0, 0);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			state = strtoull(argv[++i], 0, 0);
		else
			load(argv[i]);
	}
	if (!input_count) {
		fprintf(stderr, "no input: name a corpus file or folder\n");
		return 1;
	}
	for (unsigned i = 0; i < input_count; i++)
		run(inputs[i].data, inputs[i].size);
	uint8_t *b = malloc(INPUT_SIZE_MAX);
	for (unsigned long n = 0; n < count; n++) {
		struct input *in = &inputs[wh_random_next(&state) % input_count];
		memcpy(b, in->data, in->size);
		run(b, mutate(b, in->size, INPUT_SIZE_MAX, &state));
	}
	free(b);
	printf("%u inputs, %lu mutations\n", input_count, count);
	return 0;
}
