# SPDX-License-Identifier: ISC
# A host that cannot run kvm gets one clear line, and status 125.
failed=0

# refuses WHAT PATTERN COMMAND...
refuses()
{
	what=$1 pattern=$2
	shift 2
	"$@" >/tmp/o 2>&1
	status=$?
	if [ $status = 125 ] && [ "$(wc -l </tmp/o)" = 1 ] && grep -Eq "$pattern" /tmp/o; then
		echo "ok $what"
	else
		echo "FAIL $what: status $status: $(cat /tmp/o)"
		failed=1
	fi
}

chmod 600 /dev/kvm
refuses "no permission" "no permission for /dev/kvm: .*--engine proc" \
	su -s /bin/sh nobody -c "/bin/wherry run --engine kvm /images/ending"
mv /dev/kvm /dev/kvm.away
refuses "no device" "no /dev/kvm: use --engine proc" wherry run --engine kvm /images/ending
echo >/dev/kvm
refuses "not a device" "not KVM" wherry run --engine kvm /images/ending
rm /dev/kvm
wherry run /images/ending || { echo "FAIL auto does not fall back to proc"; failed=1; }
mv /dev/kvm.away /dev/kvm
wherry run /images/ending || { echo "FAIL auto"; failed=1; }
refuses "too much memory" "at most 2560 MiB" wherry run --engine kvm --memory 3G /images/ending
refuses "too little memory" "too little memory" wherry run --engine kvm --memory 200K /images/ending
exit $failed
