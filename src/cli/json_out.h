/* SPDX-License-Identifier: ISC */
#ifndef CLI_JSON_OUT_H
#define CLI_JSON_OUT_H

#include <stdio.h>

/* A JSON string with its quotes. Bytes that are not printable ASCII become \u00XX, and so do < > & ', so that the text
 * can stand in a page as well. */
void json_string(FILE *to, const char *s);

#endif
