# SPDX-License-Identifier: ISC
# The bound: under 100 000 guest instructions from entry to main.
nested-count /images/ending 100000 100000
