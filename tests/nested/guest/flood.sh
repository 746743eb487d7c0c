# SPDX-License-Identifier: ISC
# In a Linux guest: writes more than pipes hold.
echo @flood@
i=0
while [ $i -lt 1500 ]; do
	i=$((i + 1))
	echo "line $i of the flood, which is long enough to fill buffers"
done
