#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Linux's own 9P client, in an emulated machine with Debian's kernel, on `wherry store serve` over TCP: 9P2000.L and 9P2000.u.
usage: v9fs.py WHERRY-STORE CACHE.   77 = cannot run here, with the reason."""
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'nested'))
import nested  # noqa: E402
from serve import Store  # noqa: E402

MODULES = ['drivers/virtio/virtio_ring.ko', 'drivers/virtio/virtio.ko', 'drivers/virtio/virtio_pci_legacy_dev.ko', 'drivers/virtio/virtio_pci_modern_dev.ko',
           'drivers/virtio/virtio_pci.ko', 'net/core/failover.ko', 'drivers/net/net_failover.ko', 'drivers/net/virtio_net.ko', 'fs/netfs/netfs.ko',
           'fs/fscache/fscache.ko', 'net/9p/9pnet.ko', 'net/9p/9pnet_fd.ko', 'fs/9p/9p.ko']
INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for m in MODULES; do insmod /lib/$m || echo "@ FAILED insmod $m"; done
check() { what=$1; shift; if "$@" >/tmp/out 2>&1; then echo "@ ok $v $what"; else cat /tmp/out; echo "@ FAILED $v $what"; fi; }
is() { [ "$1" = "$2" ] || { echo "got: $1"; echo "wanted: $2"; return 1; }; }
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0
head -c 1000000 /dev/urandom >/tmp/large
for v in 9p2000.L 9p2000.u; do
	check mount mount -t 9p -o trans=tcp,port=$port,version=$v,msize=65536,cache=none,access=any,uname=root 10.0.2.2 /mnt
	check root is "$(ls /mnt | tr '\n' ' ')" "branch commits debug remotes snapshots trees "
	B=/mnt/branch/b$v
	check branch mkdir $B
	check nothing is "$(cat $B/head)" ""
	(while read line; do echo "$line" >>/tmp/live-$v; done <$B/head.live) & reader=$!
	cat $B/watch/f.node/tree.live >/tmp/watch-$v & watcher=$!
	for n in 1 2; do
		T=$B/transactions/t$n
		check begin-$n mkdir $T
		check again-$n sh -c "! mkdir $T"
		check write-$n sh -c "echo hello $n >$T/rw/f"
		check folder-$n mkdir -p $T/rw/d/e$n
		check large-$n cp /tmp/large $T/rw/d/e$n/large
		check same-$n cmp /tmp/large $T/rw/d/e$n/large
		check append-$n sh -c "echo more >>$T/rw/f"
		check rename-$n sh -c "echo x >$T/rw/old && mv $T/rw/old $T/rw/new$n"
		check executable-$n chmod 755 $T/rw/new$n
		check link-$n ln -s f $T/rw/link$n
		check truncate-$n sh -c "echo short >$T/rw/d/e$n/s && echo s >$T/rw/d/e$n/s"
		check remove-$n sh -c "echo gone >$T/rw/gone && rm $T/rw/gone && [ ! -e $T/rw/gone ]"
		check message-$n sh -c "echo message $n >$T/msg"
		check commit-$n sh -c "echo commit >$T/ctl"
		check closed-$n [ ! -e $T ]
		check content-$n is "$(cat $B/ro/f)" "hello $n
more"
		check readlink-$n is "$(readlink $B/ro/link$n)" f
		check mode-$n [ -x $B/ro/new$n ]
		check short-$n is "$(cat $B/ro/d/e$n/s)" s
		check read-only-$n sh -c "! echo x 2>/dev/null >$B/ro/f"
		check large-head-$n cmp /tmp/large $B/ro/d/e$n/large
		check snapshot-$n is "$(cat /mnt/snapshots/$(cat $B/head)/msg | head -n 1)" "message $n"
		for i in 1 2 3 4 5 6 7 8 9 10; do [ "$(tail -n 1 /tmp/live-$v)" = "$(cat $B/head)" ] && break; sleep 0.2; done
		check live-$n is "$(tail -n 1 /tmp/live-$v)" "$(cat $B/head)"
	done
	check live-lines is "$(wc -l </tmp/live-$v)" 3
	for i in 1 2 3 4 5 6 7 8 9 10; do [ "$(wc -l </tmp/watch-$v)" = 3 ] && break; sleep 0.2; done
	check watch-lines is "$(wc -l </tmp/watch-$v)" 3
	kill $watcher $reader; wait
	check others is "$(cat $B/head | wc -c)" 41
	check umount umount /mnt
done
echo "@ end"
poweroff -f
"""


def kernel(cache):
    paths = [os.path.join(cache, os.path.basename(m)) for m in ['vmlinuz'] + MODULES]
    if not all(map(os.path.exists, paths)):
        for tool in ('apt-get', 'apt-cache', 'dpkg-deb'):
            if not shutil.which(tool):
                nested.skip('no %s here to get a kernel with' % tool)
        shutil.rmtree(cache, ignore_errors=True)
        os.makedirs(cache)
        try:
            package = re.search(r'Depends: (linux-image-\S+)', nested.run(['apt-cache', 'depends', 'linux-image-amd64'])).group(1)
            nested.run(['apt-get', '-o', 'APT::Sandbox::User=', 'download', package], cwd=cache)
            [deb] = glob.glob(os.path.join(cache, '*.deb'))
            nested.unpack(deb, cache, MODULES)
            os.unlink(deb)
        except (OSError, AttributeError, ValueError, subprocess.CalledProcessError) as e:
            nested.skip("no kernel could be fetched: %s" % e)
    return paths[0], paths[1:]


def main():
    program, cache = sys.argv[1:3]
    if not shutil.which('qemu-system-x86_64'):
        nested.skip('no qemu-system-x86_64 (Debian: qemu-system-x86)')
    if not os.path.exists('/bin/busybox') or b'ld-linux' in open('/bin/busybox', 'rb').read(4096):
        nested.skip('no static busybox (Debian: busybox-static)')
    vmlinuz, modules = kernel(cache)
    with tempfile.TemporaryDirectory() as folder:
        a = nested.Initramfs()
        for name in ('proc', 'sys', 'dev', 'tmp', 'mnt'):
            a.folder(name)
        a.file('init', INIT.replace('MODULES', ' '.join(os.path.basename(m) for m in modules)).encode())
        for source, target in [('/bin/busybox', 'bin/busybox')] + [(m, 'lib/' + os.path.basename(m)) for m in modules]:
            with open(source, 'rb') as f:
                a.file(target, f.read())
        with gzip.open(folder + '/initrd', 'wb', 1) as f:
            f.write(a.finish())
        with Store(program, '--listen', 'tcp:127.0.0.1:0') as store:
            port = store.server.stdout.readline().decode().rsplit(':', 1)[1].strip()
            qemu = subprocess.run(
                ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', 'max', '-M', 'q35', '-m', '256', '-nodefaults', '-display', 'none', '-no-reboot', '-serial', 'stdio',
                 '-kernel', vmlinuz, '-initrd', folder + '/initrd', '-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n,romfile=', '-append',
                 'console=ttyS0 quiet loglevel=0 reboot=t panic=-1 mitigations=off tsc=reliable nokaslr port=' + port],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200)
            text = qemu.stdout.decode(errors='replace').replace('\r', '')
            good = len(re.findall(r'^.*@ ok ', text, re.M))
            assert 'FAILED' not in text and '@ end' in text, text[-6000:]
            print('%d checks' % good)
            assert good == 108, good
            assert store.git('show', 'b9p2000.u:f') == 'hello 2\nmore\n'
            c = store.client()
            stats = dict(line.split() for line in c.read('debug/stats').decode().splitlines())
            assert stats['streams'] == '0' and stats['connections'] == '1', stats


main()
