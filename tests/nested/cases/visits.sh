# SPDX-License-Identifier: ISC
# The demo on kvm: a web server with its count on a disk, published on a port; the count survives.
set -e
truncate -s 1M /tmp/data.raw

# visit NUMBER: starts the server, asks once, stops it
visit()
{
	wherry run --engine kvm -p 8080:80 --disk data=/tmp/data.raw,format=raw /bin/visits -- -d /dev/data >/tmp/log &
	server=$!
	while ! grep -q serving /tmp/log; do sleep 0.05; done
	nested-fetch 8080 / | tee /tmp/page
	grep -q "number $1<" /tmp/page
	kill -INT $server
	wait $server
	cat /tmp/log
}

visit 1
visit 2
