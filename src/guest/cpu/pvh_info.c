/* SPDX-License-Identifier: ISC */
/*
 * Boot info for an image that some other monitor has loaded.
 *
 *	ram_base                                                                        ram_end
 *	[data .bss][tables, scratch][heap ...][info control devices strings][trap stack][gap][stack]
 *
 * What the monitor left in memory (start info, command line) may lie anywhere below
 * 4 GiB outside the image; it is copied before anything else is written there: the
 * strings first into their final place, which is refused if it would touch them.
 */
#include <cpu/paging.h>
#include <cpu/pvh.h>
#include <wherry/abi/manifest.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#define COMMAND_LINE_SIZE_MAX 4096u
#define STRINGS_SIZE 8192u /* the command line, its name and terminators fit */
#define TRAP_STACK_SIZE (16ull << 10)
#define MEMORY_MAP_MAX 128u
#define RAM_LIMIT (3ull << 30) /* devices lie above */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

struct writer {
	char *at, *end;
	bool full;
};

static void put(struct writer *w, char c)
{
	if (w->at == w->end)
		w->full = true;
	else
		*w->at++ = c;
}

static void put_text(struct writer *w, const char *text)
{
	while (*text)
		put(w, *text++);
	put(w, 0);
}

/* Number at *at in decimal or 0x hexadecimal; false = none or too large. */
static bool number(const char **at, const char *end, uint64_t *ret_value)
{
	const char *p = *at;
	uint64_t value = 0, base = 10;
	if (end - p > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
		base = 16, p += 2;
	const char *digits = p;
	for (; p < end; p++) {
		uint64_t digit = *p >= '0' && *p <= '9' ? (uint64_t)(*p - '0')
				 : (*p | 32) >= 'a' && (*p | 32) <= 'f'
					 ? (uint64_t)((*p | 32) - 'a' + 10)
					 : 16;
		if (digit >= base)
			break;
		if (value > (UINT64_MAX - digit) / base)
			return false;
		value = value * base + digit;
	}
	*ret_value = value;
	*at = p;
	return p != digits;
}

static bool skip(const char **at, const char *end, char c)
{
	if (*at == end || **at != c)
		return false;
	(*at)++;
	return true;
}

static void parse_device(const char *at, const char *end, struct pvh_command *c)
{
	uint64_t size, address, irq;
	if (!number(&at, end, &size))
		return;
	if (skip(&at, end, 'K') || skip(&at, end, 'k'))
		size <<= 10;
	if (!skip(&at, end, '@') || !number(&at, end, &address) || !skip(&at, end, ':') ||
	    !number(&at, end, &irq))
		return;
	/* Registers and configuration space: 0x100 and what the device has. */
	if (size < 0x100 || address % 4 || address > 1ull << 46 || irq > 255 ||
	    c->device_count == WH_BOOT_DEVICES_MAX)
		return;
	for (uint32_t i = 0; i < c->device_count; i++)
		if (c->device[i].regs == address)
			return;
	c->device[c->device_count++] = (struct wh_boot_device){ .transport = WH_BOOT_TRANSPORT_MMIO,
								.irq = (uint32_t)irq,
								.regs = address };
}

static bool is_environment(const char *at, const char *end)
{
	const char *p = at;
	while (p < end && ((*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_'))
		p++;
	return p > at && p < end && *p == '=';
}

static const char *word_end(const char *at, const char *end)
{
	bool quoted = false;
	for (; at < end && *at && (quoted || !is_blank(*at)); at++)
		if (*at == '"')
			quoted = !quoted;
	return at;
}

static void put_word(struct writer *w, const char *at, const char *end)
{
	for (; at < end; at++)
		if (*at != '"')
			put(w, *at);
	put(w, 0);
}

int pvh_command_parse(const char *text, uint32_t size, const char *name, char *strings,
		      uint32_t strings_size_max, struct pvh_command *ret_command)
{
	static const char device_key[] = "virtio_mmio.device=";
	const uint32_t key_size = sizeof device_key - 1;
	const char *end = text + wh_strnlen(text, size);
	struct writer w = { strings, strings + strings_size_max, false };
	struct pvh_command *c = ret_command;
	c->device_count = c->envc = 0;
	c->argc = 1;
	put_text(&w, name);
	/* Two passes: arguments come before the environment in `strings`. */
	for (int pass = 0; pass < 2; pass++) {
		bool arguments = false;
		for (const char *at = text; at < end;) {
			if (is_blank(*at)) {
				at++;
				continue;
			}
			const char *next = word_end(at, end);
			bool device =
				next - at > (int64_t)key_size && !memcmp(at, device_key, key_size);
			if (device && pass == 0) {
				parse_device(at + key_size, next, c);
			} else if (arguments && !device && pass == 0) {
				put_word(&w, at, next);
				c->argc++;
			} else if (!arguments && pass == 1 && is_environment(at, next)) {
				put_word(&w, at, next);
				c->envc++;
			}
			if (!arguments && next - at == 2 && at[0] == '-' && at[1] == '-')
				arguments = true;
			at = next;
		}
	}
	c->strings_size = (uint32_t)(w.at - strings);
	return w.full ? -WH_E2BIG : 0;
}

uint64_t pvh_ram_end(const struct pvh_memory *map, uint32_t count, const struct pvh_image *image,
		     uint64_t limit)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t end;
		if (map[i].type != PVH_MEMORY_RAM || map[i].address > image->ram_base ||
		    wh_add_overflows(map[i].address, map[i].size, &end) || end <= image->end)
			continue;
		return wh_align_down(end < limit ? end : limit, CPU_PAGE);
	}
	return 0;
}

static void fill_layout(struct wh_boot_info *boot, const struct pvh_image *image, uint64_t info,
			uint64_t ram_end, uint64_t stack)
{
	memset(boot, 0, sizeof *boot);
	boot->magic = WH_BOOT_MAGIC;
	boot->version = WH_BOOT_VERSION;
	boot->size = sizeof *boot;
	boot->engine = WH_BOOT_ENGINE_PVH;
	boot->image_base = image->base;
	boot->image_start = image->start;
	boot->image_end = image->end;
	boot->ram_base = image->ram_base;
	boot->ram_size = ram_end - image->ram_base;
	boot->heap_start = wh_align_up(image->end, CPU_PAGE);
	boot->heap_end = info;
	boot->stack_top = ram_end;
	boot->stack_low = ram_end - stack;
	boot->trap_stack_top = boot->stack_low - CPU_PAGE;
	boot->doorbell_fd = -1;
	memcpy(boot->hostname, "wherry", sizeof "wherry");
}

struct wh_boot_info *pvh_boot_info_make(const struct pvh_start_info *start, uint64_t mapped_end,
					const struct pvh_image *image, struct pvh_command *scratch)
{
	uint64_t map_size = start->memory_count * sizeof(struct pvh_memory);
	if (start->version < 1 || start->memory_count > MEMORY_MAP_MAX ||
	    !wh_range_inside(start->memory_map, map_size, mapped_end))
		return 0;
	uint64_t ram_end = pvh_ram_end((const struct pvh_memory *)(uintptr_t)start->memory_map,
				       start->memory_count, image,
				       RAM_LIMIT < mapped_end ? RAM_LIMIT : mapped_end);
	uint64_t stack = wh_manifest_stack(image->stack_size, ram_end - image->ram_base);
	uint64_t fixed = wh_align_up(sizeof(struct wh_boot_info), 64) +
			 wh_align_up(sizeof(struct wh_boot_control), 64) + sizeof scratch->device +
			 STRINGS_SIZE;
	uint64_t room = wh_align_up(fixed, CPU_PAGE) + TRAP_STACK_SIZE + CPU_PAGE + stack;
	if (ram_end < image->end || ram_end - image->end < 2 * room)
		return 0;

	uint64_t info = ram_end - room;
	uint64_t control = info + wh_align_up(sizeof(struct wh_boot_info), 64);
	uint64_t devices = control + wh_align_up(sizeof(struct wh_boot_control), 64);
	uint64_t strings = devices + sizeof scratch->device;
	const char *line = "";
	uint32_t line_size = 0;
	if (start->command_line && start->command_line < mapped_end) {
		uint64_t most = mapped_end - start->command_line;
		line = (const char *)(uintptr_t)start->command_line;
		line_size = most < COMMAND_LINE_SIZE_MAX ? (uint32_t)most : COMMAND_LINE_SIZE_MAX;
		if (start->command_line < ram_end && start->command_line + line_size > info)
			return 0;
	}
	if (pvh_command_parse(line, line_size, image->name, (char *)(uintptr_t)strings,
			      STRINGS_SIZE, scratch) < 0)
		return 0;

	struct wh_boot_info *boot = (struct wh_boot_info *)(uintptr_t)info;
	fill_layout(boot, image, info, ram_end, stack);
	boot->control = control;
	boot->devices = devices;
	boot->strings = strings;
	boot->strings_size = scratch->strings_size;
	boot->argc = scratch->argc;
	boot->envc = scratch->envc;
	boot->device_count = scratch->device_count;
	memset((void *)(uintptr_t)control, 0, sizeof(struct wh_boot_control));
	memcpy((void *)(uintptr_t)devices, scratch->device, sizeof scratch->device);
	return boot;
}
