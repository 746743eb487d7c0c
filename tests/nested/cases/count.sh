# SPDX-License-Identifier: ISC
# Guest instructions from entry to main: under 100 000, also with every kind of device, in a small machine and
# in a large one.
# TIMEOUT=120
failed=0

# bounded WHAT COMMAND...: counts, prints, compares
bounded()
{
	what=$1
	shift
	"$@" >/dev/null 2>/tmp/o </dev/null
	n=$(sed -n 's/^counted .* \([0-9]*\) to main$/\1/p' /tmp/o)
	if [ "${n:-0}" -gt 0 ] && [ "$n" -lt 100000 ]; then
		echo "ok $what: $n instructions"
	else
		echo "FAIL $what: $(cat /tmp/o)"
		failed=1
	fi
}

truncate -s 1M /tmp/disk
mkdir -p /tmp/folder
bounded "2 MiB" wherry-count run --engine kvm --memory 2M /images/ending
bounded "2560 MiB" wherry-count run --engine kvm --memory 2560M /images/ending
# An option that it does not know: it ends in main.
bounded "network, disk, folder" wherry-count run --engine kvm -p 8081:80 --disk data=/tmp/disk,format=raw \
	-v /tmp/folder:/srv:ro /bin/visits -- -?
exit $failed
