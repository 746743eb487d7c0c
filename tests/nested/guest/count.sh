# SPDX-License-Identifier: ISC
# In a Linux guest: counts, writing to the disk, until a line comes; linux/snapshot.sh saves it meanwhile.
( while :; do date +%s >/tmp/beat; usleep 20000; done ) &
i=0
echo "@counting@"
while ! read -r -t 1 line; do
	i=$((i + 1))
	dd if=/dev/zero of=/dev/vda bs=4k seek=$i count=4 conv=fsync 2>/dev/null || exit 1
done
[ "$line" = now ] || exit 1
echo "counted $i, clock $(date +%s), cpus $(nproc)"
ip link set eth0 up && udhcpc -n -q -t 5 -T 2 -i eth0 -s /cases/udhcpc.sh && ping -c 1 -W 5 10.0.2.2 || exit 1
dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null
