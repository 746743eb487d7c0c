/* SPDX-License-Identifier: ISC */
/*
 * The PC's ports that kvm does not keep itself: serial port, clock (MC146818), ACPI's PM1 registers and timer,
 * the ways to reset, and PCI's configuration mechanism 1. All others read as ones.
 */
#include <time.h>
#include <wherry/os.h>

#include "pc_priv.h"

#define PORT_SERIAL 0x3f8u
#define PORT_CMOS 0x70u
#define PORT_KEYBOARD 0x64u /* 0xfe pulls the reset line */
#define PORT_RESET 0xcf9u
#define PORT_PCI_ADDRESS 0xcf8u
#define PORT_PCI_DATA 0xcfcu

#define PM_STATUS 0u
#define PM_ENABLE 2u
#define PM_CONTROL 4u
#define PM_TIMER 8u
#define PM_TIMER_HZ 3579545u
#define PM_POWER_BUTTON 0x100u
#define PM_BITS 0x521u /* timer, global lock, power button, clock */
#define PM_SCI_ENABLED 1u
#define PM_SLEEP 0x2000u
#define PM_SLEEP_TYPE(v) ((v) >> 10 & 7u)
#define PM_SLEEP_TYPE_OFF 5u

static uint8_t bcd(int v)
{
	return (uint8_t)(v / 10 % 10 << 4 | v % 10);
}

static uint8_t cmos_read(struct pc *pc)
{
	struct tm t;
	time_t now = (time_t)(wh_os_wall_clock() / 1000000000u);
	uint64_t above = pc->low_size > (16u << 20) ? (pc->low_size - (16u << 20)) >> 16 : 0;
	gmtime_r(&now, &t);
	switch (pc->cmos_index) {
	case 0x00:
		return bcd(t.tm_sec);
	case 0x02:
		return bcd(t.tm_min);
	case 0x04:
		return bcd(t.tm_hour);
	case 0x06:
		return bcd(t.tm_wday + 1);
	case 0x07:
		return bcd(t.tm_mday);
	case 0x08:
		return bcd(t.tm_mon + 1);
	case 0x09:
		return bcd(t.tm_year % 100);
	case 0x0a:
		return 0x26;
	case 0x0b:
		return 0x02; /* 24 hours, BCD */
	case 0x0d:
		return 0x80; /* the battery is good */
	case 0x32:
		return bcd(19 + t.tm_year / 100);
	case 0x34:
		return (uint8_t)above;
	case 0x35:
		return (uint8_t)(above >> 8);
	}
	return 0;
}

static void sci_update(struct pc *pc)
{
	bool level = (pc->pm_status & pc->pm_enable) || (pc->gpe_status & pc->gpe_enable);
	if (level == pc->sci)
		return;
	pc->sci = level;
	pc_line(pc, PC_IRQ_SCI, level);
}

void pc_power_button(struct pc *pc)
{
	pthread_mutex_lock(&pc->lock);
	pc->pm_status |= PM_POWER_BUTTON;
	sci_update(pc);
	pthread_mutex_unlock(&pc->lock);
}

void pc_generation_renew(struct pc *pc)
{
	wh_os_random(pc_ram_at(pc, PC_GENERATION, 16), 16);
}

void pc_generation_changed(struct pc *pc)
{
	pthread_mutex_lock(&pc->lock);
	pc->gpe_status |= 1;
	sci_update(pc);
	pthread_mutex_unlock(&pc->lock);
}

static void gpe_write(struct pc *pc, uint32_t at, uint32_t value)
{
	if (at)
		pc->gpe_enable = value & 1;
	else
		pc->gpe_status &= (uint8_t)~value;
	sci_update(pc);
}

static uint32_t pm_read(struct pc *pc, uint32_t at)
{
	switch (at) {
	case PM_STATUS:
		return pc->pm_status | (uint32_t)pc->pm_enable << 16;
	case PM_ENABLE:
		return pc->pm_enable;
	case PM_CONTROL:
		return pc->pm_control | PM_SCI_ENABLED;
	case PM_TIMER:
		return (uint32_t)((unsigned __int128)wh_os_now() * PM_TIMER_HZ / 1000000000u) &
		       0xffffff;
	}
	return 0;
}

static void pm_write(struct pc *pc, uint32_t at, uint32_t value)
{
	switch (at) {
	case PM_STATUS:
		pc->pm_status &= (uint16_t)~value;
		break;
	case PM_ENABLE:
		pc->pm_enable = value & PM_BITS;
		break;
	case PM_CONTROL:
		pc->pm_control = (uint16_t)(value & ~PM_SLEEP);
		if (value & PM_SLEEP && PM_SLEEP_TYPE(value) == PM_SLEEP_TYPE_OFF)
			pc_ends(pc, PC_END_OFF);
		break;
	}
	sci_update(pc);
}

enum pc_exit_cause pc_port_read(struct pc_vcpu *v, uint16_t port, uint32_t size,
				uint32_t *ret_value)
{
	struct pc *pc = v->pc;
	enum pc_exit_cause cause = PC_EXIT_PORT_OTHER;
	uint32_t value = UINT32_MAX;
	pthread_mutex_lock(&pc->lock);
	if (port - PORT_SERIAL < 8u && size == 1) {
		value = pc_uart_read(pc, port - PORT_SERIAL);
		cause = PC_EXIT_SERIAL;
	} else if (port - PORT_PCI_DATA < 4u) {
		if (pc->pci_address >> 31 && !(pc->pci_address & 0x7f000000))
			value = pc_pci_read(pc, pc->pci_address >> 8 & 0xffff,
					    (pc->pci_address & 0xfc) + (port & 3u), size);
		cause = PC_EXIT_PCI_CONFIG;
	} else if (port == PORT_PCI_ADDRESS && size == 4) {
		value = pc->pci_address;
		cause = PC_EXIT_PCI_CONFIG;
	} else if (port - PC_PORT_PM < PC_PORT_PM_SIZE) {
		value = pm_read(pc, port - PC_PORT_PM);
		cause = PC_EXIT_POWER;
	} else if (port - PC_PORT_GPE < PC_PORT_GPE_SIZE) {
		value = port == PC_PORT_GPE ? pc->gpe_status : pc->gpe_enable;
		cause = PC_EXIT_POWER;
	} else if (port == PORT_CMOS + 1) {
		value = cmos_read(pc);
		cause = PC_EXIT_CLOCK;
	} else if (port == PORT_KEYBOARD) {
		value = 0; /* its input buffer is empty */
	}
	pthread_mutex_unlock(&pc->lock);
	*ret_value = value;
	return cause;
}

/* One byte to the serial port, which waits for the loop when that is behind. */
static void serial_write(struct pc_vcpu *v, uint32_t reg, uint8_t value)
{
	struct pc *pc = v->pc;
	pthread_mutex_lock(&pc->lock);
	while (!reg && pc->uart.output_count == PC_UART_OUTPUT) {
		pthread_mutex_unlock(&pc->lock);
		v->mail.kind = PC_MAIL_SERIAL;
		if (!pc_ask(v))
			return;
		pthread_mutex_lock(&pc->lock);
	}
	pc_uart_write(pc, reg, value);
	pthread_mutex_unlock(&pc->lock);
}

enum pc_exit_cause pc_port_write(struct pc_vcpu *v, uint16_t port, uint32_t size, uint32_t value)
{
	struct pc *pc = v->pc;
	enum pc_exit_cause cause = PC_EXIT_PORT_OTHER;
	if (port - PORT_SERIAL < 8u && size == 1) {
		serial_write(v, port - PORT_SERIAL, (uint8_t)value);
		return PC_EXIT_SERIAL;
	}
	pthread_mutex_lock(&pc->lock);
	if (port - PORT_PCI_DATA < 4u) {
		if (pc->pci_address >> 31 && !(pc->pci_address & 0x7f000000))
			pc_pci_write(pc, pc->pci_address >> 8 & 0xffff,
				     (pc->pci_address & 0xfc) + (port & 3u), size, value);
		cause = PC_EXIT_PCI_CONFIG;
	} else if (port == PORT_PCI_ADDRESS && size == 4) {
		pc->pci_address = value;
		cause = PC_EXIT_PCI_CONFIG;
	} else if (port - PC_PORT_PM < PC_PORT_PM_SIZE) {
		pm_write(pc, port - PC_PORT_PM, value);
		cause = PC_EXIT_POWER;
	} else if (port - PC_PORT_GPE < PC_PORT_GPE_SIZE) {
		gpe_write(pc, port - PC_PORT_GPE, value);
		cause = PC_EXIT_POWER;
	} else if (port == PORT_CMOS) {
		pc->cmos_index = value & 0x7f;
		cause = PC_EXIT_CLOCK;
	} else if ((port == PORT_KEYBOARD && (value & 0xff) == 0xfe) ||
		   (port == PORT_RESET && value & 4)) {
		pc_ends(pc, PC_END_RESET);
		cause = PC_EXIT_POWER;
	}
	pthread_mutex_unlock(&pc->lock);
	return cause;
}
