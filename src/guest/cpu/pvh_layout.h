/* SPDX-License-Identifier: ISC */
#ifndef CPU_PVH_LAYOUT_H
#define CPU_PVH_LAYOUT_H

/* Numbers that the PVH entry's assembly and C share. */

#define PVH_MAGIC 0x336ec578
#define PVH_START_MODULE_COUNT 12
#define PVH_START_MODULES 16

/* Bytes behind the image kept for descriptor tables and page tables: enough for every
 * small piece of a 3 GiB machine and 100 MiB of image in 4 KiB pages. */
#define PVH_RESERVE 0x40000
#define PVH_SCRATCH_SIZE 0x8000

#endif
