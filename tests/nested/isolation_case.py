#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Writes the nested machine's case that runs the isolation guests on kvm, from the table in
tests/isolation/run.py. usage: isolation_case.py RUN.PY OUT.sh"""
import importlib.util
import sys

HEAD = r"""# Written by isolation_case.py.
# TIMEOUT=120
failed=0
truncate -s 1M /tmp/ring
mkdir -p /tmp/shared

# attack IMAGE WEAKNESS STATUS PATTERN: how it ends
attack()
{
	disk=
	[ $1 = bad_ring ] && disk="--disk ring=/tmp/ring,format=raw"
	# All devices; no frame may lead anywhere.
	[ $1 = fuzz_rings ] && disk="--disk ring=/tmp/ring,format=raw -v /tmp/shared:/shared -p 127.0.0.1:8070:80 --deny 0.0.0.0/0"
	WHERRY_WEAKEN=$2 wherry${2:+-weak} run --engine kvm --memory 4M $disk /bin/$1 >/tmp/o 2>&1
	status=$?
	if [ $status = $3 ] && echo "$(tr '\n' ' ' </tmp/o)" | grep -Eq "$4"; then
		echo "ok $1${2:+ without $2}"
	else
		echo "FAIL $1${2:+ without $2}: status $status: $(cat /tmp/o)"
		failed=1
	fi
}

never_answers()
{
	$1 run --engine kvm --memory 4M /bin/never_answers >/tmp/o 2>&1 &
	monitor=$!
	while ! grep -q spinning /tmp/o; do sleep 0.05; done
	kill -INT $monitor
	sleep 0.3
	kill -0 $monitor || { echo "FAIL never_answers: it answered"; failed=1; }
	kill -INT $monitor
	for i in 1 2 3 4 5 6 7 8 9 10; do
		kill -0 $monitor 2>/dev/null || break
		sleep 0.1
	done
	kill -0 $monitor 2>/dev/null && still=yes || still=no
	if [ $still = $2 ]; then echo "ok never_answers with $1"; else echo "FAIL never_answers with $1"; failed=1; fi
	kill -KILL $monitor 2>/dev/null
}
"""

TAIL = """wherry run --engine kvm --memory 4M -e CONSOLE=1 /bin/fuzz_rings >/tmp/o 2>&1
[ $? = 7 ] && echo "ok fuzz_rings of the console" || failed=1
never_answers wherry no
WHERRY_WEAKEN=kill never_answers wherry-weak yes
exit $failed
"""


def main():
    spec = importlib.util.spec_from_file_location("run", sys.argv[1])
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    lines = [HEAD]
    run.CASES["fuzz_rings"] = (0, "device 1: .*the monitor lives", None)
    for name, case in {**run.CASES, **run.KVM, **run.KVM_ONLY}.items():
        if case is None:
            continue
        status, pattern, protection = case
        lines.append(f"attack {name} '' {status} '{pattern}'\n")
        if protection == "rings":  # the monitor touches what it should not
            lines.append(f"attack {name} {protection} 139 ''\n")
            continue
        if protection == "guard":  # it goes on into whatever lies below
            lines.append(f"attack {name} {protection} {status} 'fault.*writ'\n")
        elif protection:
            lines.append(f"attack {name} {protection} 99 BROKEN\n")
    with open(sys.argv[2], "w") as f:
        f.write("".join(lines) + TAIL)


main()
