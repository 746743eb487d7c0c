/* SPDX-License-Identifier: ISC */
/*
 * Options of the handshake (proto, "Option types"). The data of an option is all there; it is checked
 * before anything changes.
 */
#include "nbd_priv.h"

static const char *const context_names[] = { "base:allocation", "qemu:allocation-depth" };

static bool reply(struct wh_nbd_conn *c, uint32_t kind, const void *data, size_t size)
{
	uint8_t head[NBD_OPTION_REPLY_SIZE];
	wh_store_be64(head, NBD_OPTION_REPLY_MAGIC);
	wh_store_be32(head + 8, c->option);
	wh_store_be32(head + 12, kind);
	wh_store_be32(head + 16, (uint32_t)size);
	return nbd_send_copy(c, head, sizeof head, data, size);
}

static void refuse(struct wh_nbd_conn *c, uint32_t error, const char *why)
{
	reply(c, error, why, wh_strlen(why));
}

static bool same(const char *name, const uint8_t *text, uint32_t size)
{
	return wh_strlen(name) == size && !memcmp(name, text, size);
}

static const struct wh_nbd_export *find(const struct wh_nbd_conn *c, const uint8_t *name,
					uint32_t size)
{
	for (uint32_t i = 0; i < c->config.export_count; i++)
		if (same(c->config.exports[i].name, name, size))
			return &c->config.exports[i];
	return size ? NULL : &c->config.exports[0];
}

/* ---- choosing an export ---- */

static uint16_t transmission_flags(const struct wh_nbd_conn *c, const struct wh_nbd_export *e)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
	if (e->read_only || wh_block_read_only(e->block))
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	if (c->structured || c->extended)
		flags |= NBD_FLAG_SEND_DF;
	if (c->config.multi_conn)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	return flags;
}

static void choose(struct wh_nbd_conn *c, const struct wh_nbd_export *e)
{
	c->export = e;
	c->export_size = wh_block_size(e->block);
	c->read_only = e->read_only || wh_block_read_only(e->block);
	if (c->contexts_export != e)
		c->contexts = 0; /* proto: they hold for the export that was named with them */
	c->phase = NBD_PHASE_REQUEST;
}

static void export_name(struct wh_nbd_conn *c, const uint8_t *data)
{
	uint8_t answer[NBD_EXPORT_REPLY_SIZE + NBD_EXPORT_REPLY_ZEROES] = { 0 };
	const struct wh_nbd_export *e = find(c, data, c->option_size);
	if (!e) { /* this option has no way to say so */
		nbd_broken(c, "no such export");
		return;
	}
	choose(c, e);
	wh_store_be64(answer, c->export_size);
	wh_store_be16(answer + 8, transmission_flags(c, e));
	nbd_send_copy(c, answer, c->no_zeroes ? NBD_EXPORT_REPLY_SIZE : sizeof answer, NULL, 0);
}

static void info_export(struct wh_nbd_conn *c, const struct wh_nbd_export *e)
{
	uint8_t m[12];
	wh_store_be16(m, NBD_INFO_EXPORT);
	wh_store_be64(m + 2, wh_block_size(e->block));
	wh_store_be16(m + 10, transmission_flags(c, e));
	reply(c, NBD_REP_INFO, m, sizeof m);
}

static void info_block_size(struct wh_nbd_conn *c)
{
	uint8_t m[14];
	wh_store_be16(m, NBD_INFO_BLOCK_SIZE);
	wh_store_be32(m + 2, WH_BLOCK_SECTOR);
	wh_store_be32(m + 6, NBD_BLOCK_PREFERRED);
	wh_store_be32(m + 10, WH_NBD_PAYLOAD_MAX);
	reply(c, NBD_REP_INFO, m, sizeof m);
}

static void info_text(struct wh_nbd_conn *c, uint16_t kind, const char *text)
{
	uint8_t m[2 + WH_NBD_NAME_MAX];
	size_t n = wh_strnlen(text, WH_NBD_NAME_MAX);
	wh_store_be16(m, kind);
	memcpy(m + 2, text, n);
	reply(c, NBD_REP_INFO, m, 2 + n);
}

/* INFO and GO. */
static void info(struct wh_nbd_conn *c, const uint8_t *data)
{
	uint32_t size = c->option_size, name_size;
	bool name = false, description = false;
	if (size < 6 || (name_size = wh_load_be32(data)) > size - 6) {
		refuse(c, NBD_REP_ERR_INVALID, "wrong lengths");
		return;
	}
	uint32_t count = wh_load_be16(data + 4 + name_size);
	if (name_size > WH_NBD_NAME_MAX || size != 6 + name_size + 2 * count) {
		refuse(c, NBD_REP_ERR_INVALID, "wrong lengths");
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint16_t kind = wh_load_be16(data + 6 + name_size + 2 * i);
		name |= kind == NBD_INFO_NAME;
		description |= kind == NBD_INFO_DESCRIPTION;
	}
	const struct wh_nbd_export *e = find(c, data + 4, name_size);
	if (!e) {
		refuse(c, NBD_REP_ERR_UNKNOWN, "no such export");
		return;
	}
	info_export(c, e);
	info_block_size(c);
	if (name)
		info_text(c, NBD_INFO_NAME, e->name);
	if (description && e->description)
		info_text(c, NBD_INFO_DESCRIPTION, e->description);
	if (c->option == NBD_OPT_GO)
		choose(c, e);
	reply(c, NBD_REP_ACK, NULL, 0);
}

static void list(struct wh_nbd_conn *c)
{
	uint8_t m[4 + 2 * WH_NBD_NAME_MAX];
	if (c->option_size) {
		refuse(c, NBD_REP_ERR_INVALID, "no data may follow");
		return;
	}
	for (uint32_t i = 0; i < c->config.export_count; i++) {
		const struct wh_nbd_export *e = &c->config.exports[i];
		const char *text = e->description ? e->description : "";
		size_t n = wh_strnlen(e->name, WH_NBD_NAME_MAX);
		size_t k = wh_strnlen(text, WH_NBD_NAME_MAX);
		wh_store_be32(m, (uint32_t)n);
		memcpy(m + 4, e->name, n);
		memcpy(m + 4 + n, text, k);
		if (!reply(c, NBD_REP_SERVER, m, 4 + n + k))
			return;
	}
	reply(c, NBD_REP_ACK, NULL, 0);
}

/* ---- meta contexts ---- */

static bool all_of_it(uint32_t size, uint32_t at, uint32_t count, const uint8_t *data)
{
	for (uint32_t i = 0; i < count; i++) {
		if (size - at < 4)
			return false;
		uint32_t n = wh_load_be32(data + at);
		at += 4;
		if (n > size - at || n > WH_NBD_NAME_MAX)
			return false;
		at += n;
	}
	return at == size;
}

/* Which contexts a query names: one by its full name, and when listing all of a namespace. */
static uint32_t matches(const uint8_t *query, uint32_t size, bool listing)
{
	uint32_t found = 0;
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(context_names); i++) {
		const char *name = context_names[i];
		bool prefix = size && query[size - 1] == ':' && wh_strlen(name) > size &&
			      !memcmp(name, query, size);
		if (same(name, query, size) || (listing && prefix))
			found |= 1u << i;
	}
	return found;
}

static void meta_context(struct wh_nbd_conn *c, const uint8_t *data)
{
	uint32_t size = c->option_size, name_size, count, found = 0;
	bool listing = c->option == NBD_OPT_LIST_META_CONTEXT;
	if (!listing)
		c->contexts = 0; /* each SET forgets the one before, also when it fails */
	if (!c->structured && !c->extended) {
		refuse(c, NBD_REP_ERR_INVALID, "structured replies come first");
		return;
	}
	if (size < 8 || (name_size = wh_load_be32(data)) > size - 8 ||
	    name_size > WH_NBD_NAME_MAX) {
		refuse(c, NBD_REP_ERR_INVALID, "wrong lengths");
		return;
	}
	count = wh_load_be32(data + 4 + name_size);
	if (count > WH_NBD_QUERIES_MAX) {
		refuse(c, NBD_REP_ERR_TOO_BIG, "too many queries");
		return;
	}
	uint32_t at = 8 + name_size;
	if (!all_of_it(size, at, count, data)) {
		refuse(c, NBD_REP_ERR_INVALID, "wrong lengths");
		return;
	}
	const struct wh_nbd_export *e = find(c, data + 4, name_size);
	if (!e) {
		refuse(c, NBD_REP_ERR_UNKNOWN, "no such export");
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = wh_load_be32(data + at);
		found |= matches(data + at + 4, n, listing);
		at += 4 + n;
	}
	if (listing && !count)
		found = (1u << WH_ARRAY_COUNT(context_names)) - 1;
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(context_names); i++) {
		uint8_t m[4 + 64];
		size_t n = wh_strlen(context_names[i]);
		if (!(found & 1u << i))
			continue;
		wh_store_be32(m, listing ? 0 : i + 1);
		memcpy(m + 4, context_names[i], n);
		if (!reply(c, NBD_REP_META_CONTEXT, m, 4 + n))
			return;
	}
	if (!listing) {
		c->contexts = found;
		c->contexts_export = e;
	}
	reply(c, NBD_REP_ACK, NULL, 0);
}

/* ---- the rest ---- */

static void start_tls(struct wh_nbd_conn *c)
{
	if (c->option_size) {
		refuse(c, NBD_REP_ERR_INVALID, "no data may follow");
	} else if (c->secure) {
		refuse(c, NBD_REP_ERR_INVALID, "TLS is there already");
	} else if (c->config.tls == WH_NBD_TLS_OFF) {
		refuse(c, NBD_REP_ERR_POLICY, "this server has no TLS");
	} else {
		reply(c, NBD_REP_ACK, NULL, 0);
		c->phase = NBD_PHASE_TLS;
	}
}

static void structured(struct wh_nbd_conn *c)
{
	if (c->option_size || c->extended) {
		refuse(c, NBD_REP_ERR_INVALID,
		       c->extended ? "extended headers are chosen already" : "no data may follow");
		return;
	}
	c->structured = true;
	reply(c, NBD_REP_ACK, NULL, 0);
}

static void extended(struct wh_nbd_conn *c)
{
	if (c->option_size) {
		refuse(c, NBD_REP_ERR_INVALID, "no data may follow");
		return;
	}
	c->extended = true;
	reply(c, NBD_REP_ACK, NULL, 0);
}

void nbd_option(struct wh_nbd_conn *c, const uint8_t *data)
{
	bool closed = c->config.tls == WH_NBD_TLS_REQUIRED && !c->secure;
	if (closed && c->option != NBD_OPT_STARTTLS && c->option != NBD_OPT_ABORT) {
		if (c->option == NBD_OPT_EXPORT_NAME)
			nbd_broken(c, "a plain client on a server that wants TLS");
		else
			refuse(c, NBD_REP_ERR_TLS_REQD, "TLS comes first");
		return;
	}
	switch (c->option) {
	case NBD_OPT_EXPORT_NAME:
		export_name(c, data);
		break;
	case NBD_OPT_ABORT:
		reply(c, NBD_REP_ACK, NULL, 0);
		c->phase = NBD_PHASE_END;
		break;
	case NBD_OPT_LIST:
		list(c);
		break;
	case NBD_OPT_STARTTLS:
		start_tls(c);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		info(c, data);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		structured(c);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		meta_context(c, data);
		break;
	case NBD_OPT_EXTENDED_HEADERS:
		extended(c);
		break;
	default:
		refuse(c, NBD_REP_ERR_UNSUP, "unknown option");
	}
}
