# SPDX-License-Identifier: ISC
# In a Linux guest: vsock both ways, memory that is given back, the power button. linux/more.sh is the other side.
failed=0
check()
{
	what=$1
	shift
	if "$@" >/tmp/o 2>&1; then echo "ok $what"; else echo "FAIL $what: $(cat /tmp/o)"; failed=1; fi
}

check "host connects by vsock" sock echo vsock:52
check "guest connects by vsock" sock pump vsock:1024 2048
check "nobody listens" sh -c '! timeout 5 sock pump vsock:9 1 2>/dev/null'
dd if=/dev/zero of=/tmp/fill bs=1M count=64 2>/dev/null
echo "@filled@"
read -r line
rm /tmp/fill
echo "@freed@ $line"
read -r line
if sock button; then echo "ok power button"; else echo "FAIL power button"; failed=1; fi
exit $failed
