/* SPDX-License-Identifier: ISC */
/*
 * ACPI tables (ACPI 6.4, 5.2 and 20.2): what a kernel is told of processors, interrupt controllers, power
 * management and the PCI bus. Written once before the start, into RAM that the memory map calls reserved.
 *
 * The power button is the fixed one (PM1 registers), sleep type 5 turns the machine off, the
 * reset register is port 0xcf9. The DSDT has the PCI bus with its window, the serial port, the clock and
 * where PCI's configuration space lies. A generation identifier (Microsoft's "Virtual Machine Generation ID") tells a kernel that it
 * goes on from a snapshot and must not use its old random state: 16 bytes behind the tables, and an event when they change.
 */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>

#include "pc_priv.h"

#define HEADER_SIZE 36u
#define FADT_SIZE 276u
#define FACS_SIZE 64u

struct out {
	uint8_t *base;
	uint32_t at;
};

static void put8(struct out *o, uint32_t v)
{
	wh_assert(o->at < PC_ACPI_SIZE);
	o->base[o->at++] = (uint8_t)v;
}

static void put(struct out *o, uint64_t v, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		put8(o, (uint32_t)(v >> 8 * i));
}

static void put_text(struct out *o, const char *text)
{
	while (*text)
		put8(o, (uint8_t)*text++);
}

/* Begins a table; its place is the return value. */
static uint32_t table_begin(struct out *o, const char *signature, uint8_t revision)
{
	o->at = (o->at + 63) & ~63u;
	uint32_t start = o->at;
	put_text(o, signature);
	put(o, 0, 4); /* length, at the end */
	put8(o, revision);
	put8(o, 0); /* checksum */
	put_text(o, "WHERRYWHERRYPC");
	put(o, 1, 4);
	put_text(o, "WHRY");
	put(o, 1, 4);
	return start;
}

static void checksum(uint8_t *from, uint32_t size, uint8_t *to)
{
	uint8_t sum = 0;
	*to = 0;
	for (uint32_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + from[i]);
	*to = (uint8_t)-sum;
}

static void table_end(struct out *o, uint32_t start)
{
	uint32_t size = o->at - start;
	wh_store_le32(o->base + start + 4, size);
	checksum(o->base + start, size, o->base + start + 9);
}

/* ---- AML ---- */

#define AML_NAME 0x08u
#define AML_BYTE 0x0au
#define AML_DWORD 0x0cu
#define AML_STRING 0x0du
#define AML_SCOPE 0x10u
#define AML_BUFFER 0x11u
#define AML_PACKAGE 0x12u
#define AML_METHOD 0x14u
#define AML_NOTIFY 0x86u
#define AML_DEVICE 0x825bu

/* Opens something with a length in front; two bytes of length are enough for all of ours. */
static uint32_t aml_begin(struct out *o, uint32_t op)
{
	put(o, op, op > 255 ? 2 : 1);
	put(o, 0, 2);
	return o->at - 2;
}

static void aml_end(struct out *o, uint32_t at)
{
	uint32_t size = o->at - at;
	wh_assert(size < 4096);
	o->base[at] = (uint8_t)(0x40 | (size & 15));
	o->base[at + 1] = (uint8_t)(size >> 4);
}

static void aml_name(struct out *o, const char *name)
{
	put8(o, AML_NAME);
	put_text(o, name);
}

static void aml_dword(struct out *o, uint32_t v)
{
	put8(o, AML_DWORD);
	put(o, v, 4);
}

/* "PNP0A08" (ACPI 6.4, 6.1.5, _HID) */
static void aml_eisa(struct out *o, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
		     (uint32_t)(id[2] - '@') << 16;
	for (uint32_t i = 0; i < 4; i++) {
		char c = id[3 + i];
		v |= (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10) << 4 * (3 - i);
	}
	aml_dword(o, wh_bswap32(v));
}

static uint32_t device_begin(struct out *o, const char *name, const char *id)
{
	uint32_t at = aml_begin(o, AML_DEVICE);
	put_text(o, name);
	aml_name(o, "_HID");
	aml_eisa(o, id);
	return at;
}

static uint32_t resources_begin(struct out *o)
{
	aml_name(o, "_CRS");
	uint32_t at = aml_begin(o, AML_BUFFER);
	aml_dword(o, 0); /* bytes, at the end */
	return at;
}

static void resources_end(struct out *o, uint32_t at)
{
	put(o, 0x79, 2); /* end tag without a checksum */
	wh_store_le32(o->base + at + 3, o->at - at - 7);
	aml_end(o, at);
}

static void resource_ports(struct out *o, uint32_t first, uint32_t count)
{
	put(o, 0x0147, 2);
	put(o, first, 2);
	put(o, first, 2);
	put8(o, 1);
	put8(o, count);
}

static void resource_irq(struct out *o, uint32_t irq)
{
	put8(o, 0x22);
	put(o, 1u << irq, 2);
}

static void put_pci(struct out *o)
{
	uint32_t bus = device_begin(o, "PCI0", "PNP0A08");
	aml_name(o, "_CID");
	aml_eisa(o, "PNP0A03");
	aml_name(o, "_UID");
	put8(o, 0);
	uint32_t r = resources_begin(o);
	put(o, 0x000d88, 3); /* buses 0 to 0 */
	put(o, 0x000c02, 3);
	put(o, 0, 8);
	put(o, 1, 2);
	resource_ports(o, 0xcf8, 8);
	put(o, 0x001787, 3); /* window of memory */
	put(o, 0x010c00, 3);
	put(o, 0, 4);
	put(o, PC_BAR_BASE, 4);
	put(o, PC_BAR_END - 1, 4);
	put(o, 0, 4);
	put(o, PC_BAR_END - PC_BAR_BASE, 4);
	resources_end(o, r);
	aml_end(o, bus);

	uint32_t board = device_begin(o, "MBRD", "PNP0C02");
	r = resources_begin(o);
	put(o, 0x000986, 3); /* configuration space */
	put8(o, 1);
	put(o, PC_ECAM, 4);
	put(o, PC_ECAM_SIZE, 4);
	resource_ports(o, PC_PORT_PM, PC_PORT_PM_SIZE + PC_PORT_GPE_SIZE);
	resources_end(o, r);
	aml_end(o, board);
}

static void aml_string(struct out *o, const char *name, const char *text)
{
	aml_name(o, name);
	put8(o, AML_STRING);
	put_text(o, text);
	put8(o, 0);
}

static void put_generation(struct out *o)
{
	uint32_t at = aml_begin(o, AML_DEVICE);
	put_text(o, "VMID");
	aml_string(o, "_HID", "WHRY0001");
	aml_string(o, "_CID", "VM_Gen_Counter");
	aml_string(o, "_DDN", "VM_Gen_Counter");
	aml_name(o, "ADDR");
	uint32_t package = aml_begin(o, AML_PACKAGE);
	put8(o, 2);
	aml_dword(o, (uint32_t)PC_GENERATION);
	aml_dword(o, 0);
	aml_end(o, package);
	aml_end(o, at);
}

/* General-purpose event 0: the generation has changed. */
static void put_event(struct out *o)
{
	uint32_t scope = aml_begin(o, AML_SCOPE);
	put_text(o, "\\_GPE");
	uint32_t method = aml_begin(o, AML_METHOD);
	put_text(o, "_E00");
	put8(o, 0); /* no arguments */
	put8(o, AML_NOTIFY);
	put_text(o, "\\");
	put(o, 0x2e, 1); /* two names */
	put_text(o, "_SB_VMID");
	put(o, AML_BYTE | 0x80u << 8, 2);
	aml_end(o, method);
	aml_end(o, scope);
}

static uint32_t put_dsdt(struct out *o)
{
	uint32_t start = table_begin(o, "DSDT", 2);
	uint32_t scope = aml_begin(o, AML_SCOPE);
	put_text(o, "\\_SB_");
	put_pci(o);
	uint32_t serial = device_begin(o, "COM1", "PNP0501");
	aml_name(o, "_UID");
	put8(o, 1);
	uint32_t r = resources_begin(o);
	resource_ports(o, 0x3f8, 8);
	resource_irq(o, PC_IRQ_SERIAL);
	resources_end(o, r);
	aml_end(o, serial);
	uint32_t clock = device_begin(o, "RTC_", "PNP0B00");
	r = resources_begin(o);
	resource_ports(o, 0x70, 2);
	resource_irq(o, 8);
	resources_end(o, r);
	aml_end(o, clock);
	put_generation(o);
	aml_end(o, scope);
	put_event(o);
	aml_name(o, "_S5_");
	uint32_t package = aml_begin(o, AML_PACKAGE);
	put8(o, 4);
	put(o, 5u << 8 | AML_BYTE, 2);
	put(o, 0, 3);
	aml_end(o, package);
	table_end(o, start);
	return start;
}

/* A generic address: `bits` of ports at `port`. */
static void store_gas(uint8_t *to, uint32_t bits, uint32_t port)
{
	to[0] = 1;
	to[1] = (uint8_t)bits;
	to[3] = (uint8_t)(bits > 16 ? 3 : bits / 8);
	wh_store_le64(to + 4, port);
}

static uint32_t put_fadt(struct out *o, uint32_t facs, uint32_t dsdt)
{
	uint32_t start = table_begin(o, "FACP", 6);
	uint8_t *f = o->base + start;
	put(o, 0, FADT_SIZE - HEADER_SIZE - 1);
	put8(o, 0);
	wh_store_le32(f + 36, (uint32_t)PC_ACPI + facs);
	wh_store_le32(f + 40, (uint32_t)PC_ACPI + dsdt);
	wh_store_le16(f + 46, PC_IRQ_SCI);
	wh_store_le32(f + 56, PC_PORT_PM);
	wh_store_le32(f + 64, PC_PORT_PM + 4);
	wh_store_le32(f + 76, PC_PORT_PM + 8);
	wh_store_le32(f + 80, PC_PORT_GPE);
	f[88] = 4;
	f[89] = 2;
	f[91] = 4;
	f[92] = 2;
	wh_store_le16(f + 96, 0xffff); /* no C2, no C3 */
	wh_store_le16(f + 98, 0xffff);
	f[108] = 0x32;                   /* century in the clock */
	wh_store_le16(f + 109, 1u << 2); /* no VGA, and no keyboard controller either */
	/* WBINVD works, C1 on all, no sleep button, clock cannot wake, reset register, headless */
	wh_store_le32(f + 112, 1u | 1u << 2 | 1u << 5 | 1u << 6 | 1u << 10 | 1u << 12);
	store_gas(f + 116, 8, 0xcf9);
	f[128] = 6;
	wh_store_le64(f + 140, PC_ACPI + dsdt);
	store_gas(f + 148, 32, PC_PORT_PM);
	store_gas(f + 172, 16, PC_PORT_PM + 4);
	store_gas(f + 208, 32, PC_PORT_PM + 8);
	store_gas(f + 220, 16, PC_PORT_GPE);
	table_end(o, start);
	return start;
}

static uint32_t put_madt(struct out *o, uint32_t cpus)
{
	uint32_t start = table_begin(o, "APIC", 4);
	put(o, PC_LAPIC, 4);
	put(o, 1, 4); /* there are 8259s */
	for (uint32_t i = 0; i < cpus; i++) {
		put(o, 0x0800, 2);
		put8(o, i);
		put8(o, i);
		put(o, 1, 4);
	}
	put(o, 0x0c01, 2);
	put(o, 0, 2);
	put(o, PC_IOAPIC, 4);
	put(o, 0, 4);
	put(o, 0x0a02, 2); /* ACPI's line: level, active high */
	put8(o, 0);
	put8(o, PC_IRQ_SCI);
	put(o, PC_IRQ_SCI, 4);
	put(o, 0x0d, 2);
	table_end(o, start);
	return start;
}

static uint32_t put_mcfg(struct out *o)
{
	uint32_t start = table_begin(o, "MCFG", 1);
	put(o, 0, 8);
	put(o, PC_ECAM, 8);
	put(o, 0, 8); /* segment 0, buses 0 to 0 */
	table_end(o, start);
	return start;
}

uint32_t pc_acpi_write(uint8_t *to, uint32_t cpus)
{
	struct out o = { .base = to, .at = 64 }; /* the RSDP comes first */
	uint32_t facs = o.at;
	put_text(&o, "FACS");
	put(&o, FACS_SIZE, 4);
	put(&o, 0, FACS_SIZE - 8);
	to[facs + 32] = 2;
	uint32_t dsdt = put_dsdt(&o);
	uint32_t tables[3] = { put_fadt(&o, facs, dsdt), put_madt(&o, cpus), put_mcfg(&o) };
	uint32_t xsdt = table_begin(&o, "XSDT", 1);
	for (uint32_t i = 0; i < 3; i++)
		put(&o, PC_ACPI + tables[i], 8);
	table_end(&o, xsdt);

	memcpy(to, "RSD PTR ", 8);
	memcpy(to + 9, "WHERRY", 6);
	to[15] = 2;
	wh_store_le32(to + 20, 36);
	wh_store_le64(to + 24, PC_ACPI + xsdt);
	checksum(to, 20, to + 8);
	checksum(to, 36, to + 32);
	return o.at;
}
