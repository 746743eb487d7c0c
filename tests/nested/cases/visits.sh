# SPDX-License-Identifier: ISC
# The demo on kvm: a web server with its count on a disk, a shared folder, published on a port; the count survives.
set -e
truncate -s 1M /tmp/data.raw
mkdir -p /tmp/web
echo from the folder >/tmp/web/file.txt

# visit NUMBER: starts the server, asks at once, stops it
visit()
{
	wherry run --engine kvm -p 8080:80 --disk data=/tmp/data.raw,format=raw -v /tmp/web:/srv:ro \
		/bin/visits -- -d /dev/data -r /srv >/tmp/log &
	server=$!
	nested-fetch 8080 / | tee /tmp/page
	grep -q "number $1<" /tmp/page
	nested-fetch 8080 /files/file.txt | tee /tmp/page
	grep -q "from the folder" /tmp/page
	kill -INT $server
	wait $server
	cat /tmp/log
}

visit 1
visit 2
