/* SPDX-License-Identifier: ISC */
#include <wherry/base/mem.h>

#include "image_calls.h"

const struct image_call image_calls[] = {
#include "image_calls_table.h"
};
const unsigned image_call_count = WH_ARRAY_COUNT(image_calls);
