# SPDX-License-Identifier: ISC
# Kernels besides Linux: Multiboot, PVH; and guests of Solo5's hvt ABI with a disk and the network.
# TIMEOUT=60
failed=0

# ends WHAT STATUS PATTERN COMMAND...
ends()
{
	what=$1 wanted=$2 pattern=$3
	shift 3
	timeout 20 "$@" >/tmp/o 2>&1 </dev/null
	status=$?
	if [ $status = $wanted ] && grep -Eq "$pattern" /tmp/o; then echo "ok $what"; else echo "FAIL $what: status $status: $(cat /tmp/o)"; failed=1; fi
}

ends Multiboot 0 "^it works" wherry run --memory 32M --append "it works" /linux/multiboot
ends PVH 0 "^it works" wherry run --memory 32M --append "it works" /linux/pvh
printf '\001\002' >/tmp/broken
head -c 600 /linux/vmlinuz >>/tmp/broken
ends "no kernel" 126 "not an ELF file|not an image" wherry run /tmp/broken
head -c 3000 /linux/vmlinuz >/tmp/short
ends "truncated kernel" 126 "damaged kernel" wherry run /tmp/short
truncate -s 64K /tmp/data
ends "Solo5 hvt" 7 "ok poll times out" wherry run --disk data=/tmp/data,format=raw /linux/solo5
[ "$(dd if=/tmp/data bs=512 skip=2 count=1 2>/dev/null | head -c 3 | od -An -tu1 | tr -s ' ')" = " 0 7 14" ] ||
	{ echo "FAIL: the disk does not have it"; failed=1; }
ends "Solo5 text is fixed" 124 "write to its text" wherry run --disk data=/tmp/data,format=raw /linux/solo5 -- write
ends "Solo5 bad address" 124 "outside its memory" wherry run --disk data=/tmp/data,format=raw /linux/solo5 -- outside
ends "Solo5 without its disk" 125 "disk data is not attached" wherry run /linux/solo5
exit $failed
