# SPDX-License-Identifier: ISC
# Network ends of kernels besides the gateway: a tap, QEMU's stream by a path and by an inherited descriptor; vsock in HyperKit's folder.
# TIMEOUT=400
failed=0
check()
{
	what=$1 append=$2
	shift 2
	"$@" --memory 128M --initrd /linux/initrd --append "console=ttyS0 quiet case=nets $append" /linux/vmlinuz </dev/null >/tmp/neto 2>&1
	if grep -q "@guest@ nets 0" /tmp/neto; then echo "ok $what"; else echo "FAIL $what"; cat /tmp/neto; failed=1; fi
}

if [ -e /dev/net/tun ]; then
	tunctl -t wt0 >/dev/null && ip addr add 10.77.0.1/24 dev wt0 && ip link set wt0 up || failed=1
	mkdir /tmp/vs
	nested-sock echo /tmp/vs/00000002.00000400 &
	( for i in $(seq 300); do
		nested-sock pump /tmp/vs/connect 256 0000004d.00000034 2>/dev/null && echo yes >/tmp/vsok && break
		usleep 200000
	done ) &
	check "tap, and vsock in a folder" "peer=10.77.0.1 vsock" wherry run --net tap=wt0 --vsock /tmp/vs,cid=77
	[ -e /tmp/vsok ] || { echo "FAIL vsock from the host"; failed=1; }
else
	echo "skipped: no /dev/net/tun"
fi
wherry net serve --listen qemu=unix:/tmp/netq --protocol qemu >/tmp/serve 2>&1 &
serve=$!
for i in $(seq 100); do [ -S /tmp/netq ] && break; usleep 50000; done
check "QEMU's stream by its path" peer=10.0.2.2 wherry run --net unix=/tmp/netq
check "an inherited descriptor" peer=10.0.2.2 nested-sock exec /tmp/netq wherry run --net fd=9
kill $serve
wherry run --net fd=77 /linux/vmlinuz 2>&1 | grep -q "no such descriptor" || { echo "FAIL a descriptor that is none"; failed=1; }
wherry run --net unix=/tmp/nothing /linux/vmlinuz 2>&1 | grep -q "cannot connect" || { echo "FAIL a socket that is none"; failed=1; }
wherry run --net tap=wt999999999999999999 /linux/vmlinuz 2>&1 | grep -q "interface's name" || { echo "FAIL a name that is none"; failed=1; }
exit $failed
