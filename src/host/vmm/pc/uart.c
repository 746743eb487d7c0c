/* SPDX-License-Identifier: ISC */
/*
 * The serial port: a 16550A (National's PC16550D data sheet) whose transmitter is always empty. Output waits
 * in a buffer for the loop; input is put into the receiver's FIFO as the guest makes room. There is
 * no speed, no parity and no modem; DTR and RTS come back as DSR, CTS and carrier.
 */
#include "pc_priv.h"

#define IER_DATA 1u
#define IER_EMPTY 2u
#define IIR_NONE 1u
#define IIR_EMPTY 2u
#define IIR_DATA 4u
#define IIR_FIFO 0xc0u
#define LCR_DLAB 0x80u
#define MCR_OUT2 8u
#define MCR_LOOP 0x10u
#define LSR_DATA 1u
#define LSR_EMPTY 0x60u
#define MSR_CONNECTED 0xb0u /* CTS, DSR, carrier */

enum { REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

static uint8_t cause(const struct pc_uart *u)
{
	if (u->ier & IER_DATA && u->input_count)
		return IIR_DATA;
	if (u->ier & IER_EMPTY && u->thre)
		return IIR_EMPTY;
	return IIR_NONE;
}

void pc_uart_update(struct pc *pc)
{
	struct pc_uart *u = &pc->uart;
	bool line = cause(u) != IIR_NONE && u->mcr & MCR_OUT2;
	if (line == u->line)
		return;
	u->line = line;
	pc_line(pc, PC_IRQ_SERIAL, line);
}

static uint8_t take_input(struct pc *pc)
{
	struct pc_uart *u = &pc->uart;
	if (!u->input_count)
		return 0;
	uint8_t byte = u->input[0];
	memmove(u->input, u->input + 1, --u->input_count);
	if (!u->input_count && !u->room) {
		u->room = true;
		pc_tell_loop(pc);
	}
	return byte;
}

uint8_t pc_uart_read(struct pc *pc, uint32_t reg)
{
	struct pc_uart *u = &pc->uart;
	uint8_t value = 0;
	switch (reg) {
	case REG_DATA:
		value = u->lcr & LCR_DLAB ? u->dll : take_input(pc);
		break;
	case REG_IER:
		value = u->lcr & LCR_DLAB ? u->dlm : u->ier;
		break;
	case REG_IIR:
		value = cause(u);
		if (value == IIR_EMPTY)
			u->thre = false;
		if (u->fcr & 1)
			value |= IIR_FIFO;
		break;
	case REG_LCR:
		value = u->lcr;
		break;
	case REG_MCR:
		value = u->mcr;
		break;
	case REG_LSR:
		value = LSR_EMPTY | (u->input_count ? LSR_DATA : 0);
		break;
	case REG_MSR:
		if (u->mcr & MCR_LOOP) /* DTR, RTS, OUT1, OUT2 -> DSR, CTS, RI, carrier */
			value = (uint8_t)((u->mcr & 1) << 5 | (u->mcr & 2) << 3 |
					  (u->mcr & 4) << 4 | (u->mcr & 8) << 4);
		else
			value = MSR_CONNECTED;
		break;
	case REG_SCR:
		value = u->scr;
		break;
	}
	pc_uart_update(pc);
	return value;
}

static void put_output(struct pc *pc, uint8_t byte)
{
	struct pc_uart *u = &pc->uart;
	if (u->mcr & MCR_LOOP) {
		if (u->input_count < PC_UART_INPUT)
			u->input[u->input_count++] = byte;
		return;
	}
	if (u->output_count < PC_UART_OUTPUT)
		u->output[u->output_count++] = byte;
	if (!u->told) {
		u->told = true;
		pc_tell_loop(pc);
	}
}

void pc_uart_write(struct pc *pc, uint32_t reg, uint8_t value)
{
	struct pc_uart *u = &pc->uart;
	switch (reg) {
	case REG_DATA:
		if (u->lcr & LCR_DLAB) {
			u->dll = value;
		} else {
			put_output(pc, value);
			u->thre = true;
		}
		break;
	case REG_IER:
		if (u->lcr & LCR_DLAB) {
			u->dlm = value;
			break;
		}
		if (value & IER_EMPTY && !(u->ier & IER_EMPTY))
			u->thre = true;
		u->ier = value & 15;
		break;
	case REG_IIR:
		u->fcr = value;
		if (value & 2)
			u->input_count = 0;
		break;
	case REG_LCR:
		u->lcr = value;
		break;
	case REG_MCR:
		u->mcr = value & 31;
		break;
	case REG_SCR:
		u->scr = value;
		break;
	}
	pc_uart_update(pc);
}
