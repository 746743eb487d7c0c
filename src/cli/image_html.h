/* SPDX-License-Identifier: ISC */
#ifndef CLI_IMAGE_HTML_H
#define CLI_IMAGE_HTML_H

#include <wherry/abi/manifest.h>
#include <wherry/elf.h>

#include "units.h"

/* Writes the page about an image to `path`, "-" = standard output. Needs the list of units. An exit status, after
 * printing why. */
int image_html_write(const char *path, const char *image, const struct wh_elf *elf,
		     const struct wh_manifest *manifest, const struct units *units);

#endif
