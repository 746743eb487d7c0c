#!/bin/sh
# SPDX-License-Identifier: ISC
# What busybox's DHCP client runs.
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
