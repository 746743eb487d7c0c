# SPDX-License-Identifier: ISC
# Exit statuses, messages, streams, signals, disks and folders: the scripts that pass on proc pass on kvm.
# TIMEOUT=120
export ENGINE=kvm
failed=0
# The second image is for the folders script, the others leave it alone.
for script in /scripts/*; do
	name=${script##*/}
	case $(head -n 1 "$script") in
	*python*) echo "skipped $name: no Python in the small machine"; continue ;;
	esac
	status=0
	sh $script wherry /images/$name /guests/files || status=$?
	case $status in
	0) echo "ok $name" ;;
	77) echo "skipped $name: see the line above" ;;
	*) echo "FAIL $name: status $status"; failed=1 ;;
	esac
done
exit $failed
