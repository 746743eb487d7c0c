/* SPDX-License-Identifier: ISC */
/*
 * Tokens: what a connection may do, as a text that whoever has the repository's key made and nobody can change.
 *
 *	token:PAYLOAD.MAC	both in base64url; MAC = HMAC-SHA256(key, PAYLOAD as it stands)
 *
 * The payload is lines `v1`, `name NAME`, `branch BRANCH|*`, `path PATH`, `allow read|write|admin`, `until SECONDS`, each once and in
 * this order. The key is 32 random bytes in wherry/token-key; a new key ends all tokens.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storefs_priv.h"

#define KEY_SIZE 32u
#define MAC_SIZE 32u
#define PAYLOAD_MAX 2048u

static const char *const allows[] = { "read", "write", "admin" };
_Static_assert(WH_ARRAY_COUNT(allows) == WH_STOREFS_ADMIN + 1, "a word for each");

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encode(const uint8_t *from, size_t size, char *to)
{
	size_t n = 0;
	uint32_t bits = 0;
	unsigned count = 0;
	for (size_t i = 0; i < size; i++) {
		bits = bits << 8 | from[i];
		for (count += 8; count >= 6; count -= 6)
			to[n++] = digits[bits >> (count - 6) & 63];
	}
	if (count)
		to[n++] = digits[bits << (6 - count) & 63];
	to[n] = 0;
	return n;
}

/* The size, or -1. Only what `encode` writes is taken: one text for one value. */
static int decode(const char *from, size_t size, uint8_t *to, size_t max)
{
	size_t n = 0;
	uint32_t bits = 0;
	unsigned count = 0;
	for (size_t i = 0; i < size; i++) {
		const char *d = from[i] ? strchr(digits, from[i]) : NULL;
		if (!d)
			return -1;
		bits = bits << 6 | (uint32_t)(d - digits);
		count += 6;
		if (count >= 8) {
			if (n == max)
				return -1;
			count -= 8;
			to[n++] = (uint8_t)(bits >> count);
		}
	}
	return count >= 6 || bits & ((1u << count) - 1) ? -1 : (int)n;
}

static int key_read(const char *git_dir, uint8_t ret_key[KEY_SIZE])
{
	char path[4300];
	snprintf(path, sizeof path, "%swherry/token-key", git_dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, ret_key, KEY_SIZE);
	close(fd);
	return n == KEY_SIZE ? 0 : -WH_EINVAL;
}

static int key_make(const char *git_dir, uint8_t ret_key[KEY_SIZE])
{
	char path[4300], temporary[4400];
	int r = key_read(git_dir, ret_key);
	if (r != -WH_ENOENT)
		return r;
	snprintf(path, sizeof path, "%swherry/token-key", git_dir);
	snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	wh_os_random(ret_key, KEY_SIZE);
	r = write(fd, ret_key, KEY_SIZE) != KEY_SIZE || fsync(fd) ? -WH_EIO : 0;
	close(fd);
	/* link: who comes second takes the first one's */
	if (r >= 0 && link(temporary, path))
		r = errno == EEXIST ? 0 : -errno;
	unlink(temporary);
	return r < 0 ? r : key_read(git_dir, ret_key);
}

static bool mac_of(const uint8_t *key, const char *payload, size_t size, uint8_t *ret_mac)
{
	unsigned n = 0;
	return HMAC(EVP_sha256(), key, KEY_SIZE, (const unsigned char *)payload, size, ret_mac,
		    &n) &&
	       n == MAC_SIZE;
}

static bool path_valid(const char *path)
{
	size_t n;
	if (!*path)
		return true;
	if (strlen(path) >= WH_STOREFS_TOKEN_PATH_MAX || strchr(path, '\n'))
		return false;
	for (;; path += n + 1) {
		n = strcspn(path, "/");
		if (!n || (n == 1 && path[0] == '.') || (n == 2 && !memcmp(path, "..", 2)))
			return false;
		if (!path[n])
			return true;
	}
}

static bool valid(const struct wh_storefs_token *t)
{
	for (const char *p = t->name; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p > '~' || *p == '<' || *p == '>')
			return false;
	return *t->name && path_valid(t->path) &&
	       (wh_streq(t->branch, "*") ? !*t->path : wh_store_branch_valid(t->branch)) &&
	       t->allow <= WH_STOREFS_ADMIN;
}

int wh_storefs_token_make(struct wh_store *store, const struct wh_storefs_token *t, char *ret_text,
			  size_t max, struct wh_diag *diag)
{
	uint8_t key[KEY_SIZE], mac[MAC_SIZE];
	char payload[PAYLOAD_MAX];
	if (!valid(t))
		return wh_diag_set(
			diag, -WH_EINVAL,
			"a token has a name without spaces, a branch or *, and a path without "
			"`..` in one branch");
	int r = key_make(wh_store_path(store), key);
	if (r < 0)
		return wh_diag_set(diag, r, "%swherry/token-key: %s", wh_store_path(store),
				   strerror(-r));
	int n = snprintf(payload, sizeof payload,
			 "v1\nname %s\nbranch %s\npath %s\nallow %s\nuntil %lld\n", t->name,
			 t->branch, t->path, allows[t->allow], (long long)t->until_s);
	wh_assert(n > 0 && n < (int)sizeof payload);
	if (max < WH_STOREFS_TOKEN_SIZE_MAX)
		return -WH_EINVAL;
	memcpy(ret_text, "token:", 6);
	size_t size = encode((uint8_t *)payload, (size_t)n, ret_text + 6);
	if (!mac_of(key, ret_text + 6, size, mac))
		return -WH_EIO;
	ret_text[6 + size] = '.';
	encode(mac, sizeof mac, ret_text + 7 + size);
	return 0;
}

/* `key VALUE\n` at *at; moves behind it. */
static bool line(char **at, const char *key, char *ret_value, size_t max)
{
	size_t k = strlen(key), n;
	if (strncmp(*at, key, k) || (*at)[k] != ' ')
		return false;
	char *value = *at + k + 1, *end = strchr(value, '\n');
	if (!end || (n = (size_t)(end - value)) >= max)
		return false;
	memcpy(ret_value, value, n);
	ret_value[n] = 0;
	*at = end + 1;
	return true;
}

static bool parse(char *p, struct wh_storefs_token *t)
{
	char allow[16], until[24], *end;
	if (strncmp(p, "v1\n", 3))
		return false;
	p += 3;
	if (!line(&p, "name", t->name, sizeof t->name) ||
	    !line(&p, "branch", t->branch, sizeof t->branch) ||
	    !line(&p, "path", t->path, sizeof t->path) || !line(&p, "allow", allow, sizeof allow) ||
	    !line(&p, "until", until, sizeof until) || *p)
		return false;
	t->until_s = strtoll(until, &end, 10);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(allows); i++)
		if (wh_streq(allow, allows[i])) {
			t->allow = (enum wh_storefs_allow)i;
			return !*end && valid(t);
		}
	return false;
}

int wh_storefs_token_take(const char *git_dir, const char *text, size_t size,
			  struct wh_storefs_token *ret_token)
{
	uint8_t key[KEY_SIZE], mac[MAC_SIZE], given[MAC_SIZE];
	char payload[PAYLOAD_MAX];
	struct wh_storefs_token t = { .allow = WH_STOREFS_READ };
	const char *dot =
		size < WH_STOREFS_TOKEN_SIZE_MAX && size > 6 ? memchr(text, '.', size) : NULL;
	if (!dot || memcmp(text, "token:", 6))
		return -WH_EACCES;
	size_t body = (size_t)(dot - text) - 6;
	/* The signature before anything of the content is believed. */
	if (key_read(git_dir, key) < 0 || !mac_of(key, text + 6, body, mac) ||
	    decode(dot + 1, size - body - 7, given, sizeof given) != MAC_SIZE ||
	    CRYPTO_memcmp(mac, given, MAC_SIZE))
		return -WH_EACCES;
	int n = decode(text + 6, body, (uint8_t *)payload, sizeof payload - 1);
	if (n < 0)
		return -WH_EACCES;
	payload[n] = 0;
	if (strlen(payload) != (size_t)n || !parse(payload, &t))
		return -WH_EACCES;
	if (t.until_s && t.until_s <= (int64_t)time(NULL))
		return -WH_ETIMEDOUT;
	*ret_token = t;
	return 0;
}

bool session_expired(const struct session *s)
{
	return s->until_s && s->until_s <= (int64_t)time(NULL);
}
