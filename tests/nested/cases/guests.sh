# SPDX-License-Identifier: ISC
# The guest programs that pass on proc pass on kvm.
# TIMEOUT=120
failed=0
for image in /guests/*; do
	if wherry run --engine kvm "$image"; then echo "ok $image"; else echo "FAIL $image: status $?"; failed=1; fi
done
exit $failed
