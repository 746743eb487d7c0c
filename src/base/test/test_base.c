/* SPDX-License-Identifier: ISC */
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/base/iov.h>
#include <wherry/base/list.h>
#include <wherry/test.h>

static void formats(void)
{
	char b[64];
	CHECK_EQ(wh_format(b, sizeof b, "%s %d %u %x %c%% %llu %zu", "a", -5, 7u, 255u, 'z', ~0ull,
			   (size_t)3),
		 wh_strlen("a -5 7 ff z% 18446744073709551615 3"));
	CHECK_STR(b, "a -5 7 ff z% 18446744073709551615 3");
	CHECK_EQ(wh_format(b, 4, "abcdef"), 6);
	CHECK_STR(b, "abc");
	struct wh_diag d;
	CHECK_EQ(wh_diag_set(&d, -WH_EINVAL, "field %s", "x"), -WH_EINVAL);
	CHECK_STR(d.text, "field x");
	CHECK_EQ(wh_diag_set(0, -WH_EIO, "nobody reads"), -WH_EIO);
}

static void iovs(void)
{
	char a[3] = "abc", c[4] = "defg", out[8] = "";
	struct wh_iov v[] = { { a, 3 }, { 0, 0 }, { c, 4 } }, part[2];
	CHECK_EQ(wh_iov_size(v, 3), 7);
	CHECK_EQ(wh_iov_read(v, 3, 2, out, 3), 3);
	CHECK_MEM(out, "cde", 3);
	CHECK_EQ(wh_iov_write(v, 3, 6, "XY", 2), 1);
	CHECK_EQ(c[3], 'X');
	CHECK_EQ(wh_iov_slice(v, 3, 1, 4, part, 2), 2);
	CHECK_EQ(part[0].size, 2);
	CHECK_EQ(part[1].size, 2);
	CHECK_EQ(wh_iov_slice(v, 3, 1, 4, part, 1), -WH_E2BIG);
	CHECK_EQ(wh_iov_slice(v, 3, 7, 1, part, 1), 0);
}

static void checked(void)
{
	uint64_t r;
	CHECK(wh_add_overflows(UINT64_MAX, 1, &r));
	CHECK(!wh_add_overflows(UINT64_MAX, 0, &r));
	CHECK(wh_mul_overflows(1ull << 32, 1ull << 32, &r));
	CHECK(wh_range_inside(0, 0, 0));
	CHECK(wh_range_inside(5, 5, 10));
	CHECK(!wh_range_inside(6, 5, 10));
	CHECK(!wh_range_inside(UINT64_MAX, 2, 10));
	CHECK(wh_is_power_of_two(512));
	CHECK(!wh_is_power_of_two(0));
	CHECK_EQ(wh_align_up(4097, 4096), 8192);
}

static void hashes(void)
{
	/* Vectors of the SipHash paper (appendix A) and RFC 3720 B.4. */
	uint8_t message[15];
	uint64_t key[2] = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };
	for (unsigned i = 0; i < sizeof message; i++)
		message[i] = (uint8_t)i;
	CHECK(wh_siphash(key, message, 15) == 0xa129ca6149be45e5ull);
	CHECK_EQ(wh_crc32c(0, "123456789", 9), 0xe3069283u);
	CHECK_EQ(wh_crc32c(wh_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

static void bytes(void)
{
	uint8_t b[9] = { 0 };
	wh_store_be32(b + 1, 0x01020304);
	CHECK_EQ(b[1], 1);
	CHECK_EQ(wh_load_le32(b + 1), 0x04030201);
	wh_store_le64(b + 1, 0x1122334455667788ull);
	CHECK_EQ(wh_load_be16(b + 1), 0x8877);
}

static void lists(void)
{
	struct wh_list head, a, b;
	wh_list_init(&head), wh_list_init(&a), wh_list_init(&b);
	CHECK(wh_list_empty(&head));
	CHECK(!wh_list_pop_front(&head));
	wh_list_push_back(&head, &a);
	wh_list_push_front(&head, &b);
	CHECK(wh_list_pop_front(&head) == &b);
	wh_list_remove(&a);
	wh_list_remove(&a);
	CHECK(wh_list_empty(&head));
}

int main(void)
{
	RUN(formats);
	RUN(iovs);
	RUN(checked);
	RUN(hashes);
	RUN(bytes);
	RUN(lists);
	return test_end();
}
