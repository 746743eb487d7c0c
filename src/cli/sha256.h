/* SPDX-License-Identifier: ISC */
#ifndef CLI_SHA256_H
#define CLI_SHA256_H

/* SHA-256 (FIPS 180-4), for the bill of materials. */

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t state[8];
	uint64_t size; /* bytes so far */
	uint8_t block[64];
};

void sha256_init(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t size);
/* 64 hexadecimal digits and a NUL. */
void sha256_end(struct sha256 *h, char ret_text[65]);
/* Of a file. 0 or -errno. */
int sha256_file(const char *path, char ret_text[65]);

#endif
