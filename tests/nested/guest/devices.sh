# SPDX-License-Identifier: ISC
# In a Linux guest: each device does its work, and every processor is there. The kernel's command line has
# cpus=N, the host serves /hello on port 8000 of the gateway.
failed=0

# check WHAT COMMAND...
check()
{
	what=$1
	shift
	if "$@" >/tmp/o 2>&1; then echo "ok $what"; else echo "FAIL $what: $(cat /tmp/o)"; failed=1; fi
}

word() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

processors() { [ "$(nproc)" = "$(word cpus)" ]; }
each_runs() { for i in $(seq 0 $(($(nproc) - 1))); do taskset $(printf %x $((1 << i))) true || return 1; done; }
memory() { [ "$(sed -n 's/MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)" -gt 180000 ]; }
clock() { [ "$(date +%Y)" -ge 2026 ] && [ "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" = kvm-clock ]; }
rtc() { hwclock -u -r; }
disk()
{
	[ "$(cat /sys/block/vda/size)" = 8192 ] && [ "$(cat /sys/block/vda/serial)" = data ] &&
		[ "$(dd if=/dev/vda bs=512 count=1 2>/dev/null | head -c 5)" = hello ] &&
		dd if=/dev/urandom of=/tmp/data bs=64k count=16 && dd if=/tmp/data of=/dev/vda bs=64k seek=16 conv=fsync &&
		echo 3 >/proc/sys/vm/drop_caches && dd if=/dev/vda of=/tmp/back bs=64k skip=16 count=16 && cmp /tmp/data /tmp/back
}
disk_read_only() { [ "$(cat /sys/block/vdb/ro)" = 1 ] && ! dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=fsync; }
network()
{
	ip link set eth0 up && udhcpc -n -q -t 5 -T 2 -i eth0 -s /cases/udhcpc.sh &&
		ping -c 1 -W 5 10.0.2.2 && [ "$(wget -q -O - http://10.0.2.2:8000/hello)" = "from the host" ]
}
entropy() { grep -q virtio /sys/class/misc/hw_random/rng_available && [ "$(head -c 32 /dev/hwrng | wc -c)" = 32 ]; }
messages() { grep -q PCI-MSI /proc/interrupts; }

for c in processors each_runs memory clock rtc disk disk_read_only network entropy messages; do check $c $c; done
exit $failed
