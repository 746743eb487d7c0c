# SPDX-License-Identifier: ISC
# In a Linux guest: keeps disk and network busy on all processors; linux/named.sh pauses and saves it meanwhile, and types a line.
writes()
{
	while :; do
		dd if=/dev/zero of=/dev/vda bs=16k seek=$1 count=16 conv=notrunc,fsync 2>/dev/null
		dd if=/dev/vda of=/dev/null bs=16k skip=$1 count=16 iflag=direct 2>/dev/null
	done
}
ip link set eth0 up && udhcpc -n -q -t 5 -T 2 -i eth0 -s /cases/udhcpc.sh || exit 1
loads=
for i in 0 20 40; do writes $i & loads="$loads $!"; done
ping -A -q 10.0.2.2 >/dev/null &
echo "@loaded@ generation $(devmem 0xf0000 64)"
while ! read -r line; do :; done
echo "@typed@ $line"
case $line in
now)
	echo "@clone@ generation $(devmem 0xf0000 64) event $(cat /sys/firmware/acpi/interrupts/gpe00) cpus $(nproc) clock $(date +%s)"
	ping -c 2 -W 5 10.0.2.2 || exit 1
	dd if=/dev/vda of=/dev/null bs=16k count=64 iflag=direct 2>/dev/null || exit 1
	dd if=/dev/zero of=/dev/vda bs=16k count=4 conv=notrunc,fsync 2>/dev/null || exit 1 ;;
button)
	killall dd ping 2>/dev/null
	kill $loads
	sock button || exit 1
	echo "@button@" ;;
esac
