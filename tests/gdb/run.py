#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""gdb and a guest on the proc engine: stop before the first instruction, breakpoints, watchpoints, steps, memory, registers, interrupt, faults,
leaving and coming again, the three ways to connect.

usage: run.py WHERRY GUEST [ENGINE...]"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

wherry, guest = sys.argv[1:3]
ENGINES = sys.argv[3:] or ["proc"]
if not shutil.which("gdb"):
    print("skipped: gdb is not installed")
    sys.exit(77)
failed = 0


def check(what, ok, text=""):
    global failed
    if not ok:
        failed += 1
        print(f"not ok: {what}\n{text}")


def gdb(target, commands, timeout=60):
    words = ["gdb", "-batch", "-nx", "-ex", "set pagination off", "-ex", "set confirm off", "-ex", f"target remote {target}"]
    for c in commands:
        words += ["-ex", c]
    return subprocess.run(words + [guest], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def start(folder, *arguments, options=(), where=None):
    path = f"{folder}/gdb"
    p = subprocess.Popen([wherry, "run", "--engine", "proc", *options, "--gdb", where or f"unix:{path}", guest, "--", *arguments],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(500):
        if where or os.path.exists(path) or p.poll() is not None:
            break
        time.sleep(0.02)
    return p, path


with tempfile.TemporaryDirectory() as folder:
    p, path = start(folder)
    out = gdb(path, ["info symbol $pc", "break twice", "continue", "backtrace", "print n", "print $rdi", "delete", "watch watched", "continue", "continue",
                     "delete", "stepi", "info symbol $pc", "set var count = 100", "finish", "hbreak twice", "continue", "print n", "delete", "x/2i twice",
                     "continue"])
    text = out.stdout + out.stderr
    for what, pattern in {
            "stops before its first instruction": r"^wh_boot_entry in section",
            "breakpoint with arguments": r"^Breakpoint 1, twice \(n=",
            "backtrace": r"^#0  twice .*\n#1 .* in main ",
            "variable": r"^\$1 = 0$", "register": r"^\$2 = 0$",
            "watchpoint": r"Old value = 0\nNew value = 1\n", "another": r"Old value = 1\nNew value = 2\n",
            "step": r"^twice \+ \d+ in section",
            "finish": r"Value returned is \$\d+ = 4",
            "hardware breakpoint": r"^Breakpoint 3, twice \(n=",
            "variable there": r"^\$4 = 3$",
            "end": r"exited with code 07\]"}.items():
        check(what, re.search(pattern, text, re.M), text)
    said, error = p.communicate(timeout=30)
    check("memory was changed", said == "sum 20 count 103\n", said + error)
    check("status", p.returncode == 7)
    check("the socket is gone", not os.path.exists(path))

    p, path = start(folder, "fault")
    out = gdb(path, ["continue", "info symbol $pc", "print nowhere", "continue"])
    text = out.stdout + out.stderr
    check("a fault stops it", "received signal SIGSEGV" in text and re.search(r"^main \+ \d+ in section", text, re.M), text)
    said, error = p.communicate(timeout=30)
    check("and is the guest's then", p.returncode == 124 and "fault" in error, error)

    # Leaves, comes again, interrupts, kills. gdb interrupts a guest that runs when it comes.
    p, path = start(folder, "wait")
    out = gdb(path, ["detach"])
    check("detach", out.returncode == 0, out.stderr)
    out = gdb(path, ["backtrace", "kill"])
    check("comes again", "#0" in out.stdout, out.stdout + out.stderr)
    p.wait(30)
    check("kill", p.returncode == 137, str(p.returncode))

    port = None
    p, _ = start(folder, where="tcp:127.0.0.1:0")
    port = re.search(r"port (\d+)", p.stderr.readline()).group(1)
    out = gdb(f"127.0.0.1:{port}", ["continue"])
    check("tcp", "exited with code 07" in out.stdout, out.stdout + out.stderr)
    p.wait(30)

    out = gdb(f"| {wherry} run --engine proc --sandbox minimal --confine off --gdb stdio {guest}", ["tbreak twice", "continue", "continue"])
    check("stdio", re.search(r"twice \(n=", out.stdout) and "exited with code 07" in out.stdout and "sum 20" in out.stderr, out.stdout + out.stderr)

    # Core files: of a fault, of an abort, none of a good end; a file that is there is not touched.
    for engine in ENGINES:
        core = f"{folder}/core-{engine}"
        p = subprocess.run([wherry, "run", "--engine", engine, "--core", core, guest, "--", "fault"], capture_output=True, text=True, timeout=60)
        check(f"{engine}: a fault leaves a core file", p.returncode == 124 and f"core file: {core}" in p.stderr, p.stderr)
        out = subprocess.run(["gdb", "-batch", "-nx", "-ex", "info symbol $pc", "-ex", "backtrace", "-ex", "print nowhere", "-ex", "print count", "-ex", "print $rsp > 4096",
                              "-ex", "info locals", guest, core], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        text = out.stdout + out.stderr
        for what, pattern in {"signal": r"signal SIGSEGV", "place": r"^main \+ \d+ in section", "backtrace": r"^#0 .* in main ", "variable": r"^\$1 = .*0x0",
                              "count": r"^\$2 = 5$", "stack": r"^\$3 = 1$"}.items():
            check(f"{engine}: core file: {what}", re.search(pattern, text, re.M), text)
        check("it is small", os.stat(core).st_blocks * 512 < 4 << 20)
        p = subprocess.run([wherry, "run", "--engine", engine, "--core", core, guest], capture_output=True, text=True, timeout=60)
        check("it is not written over", p.returncode == 125 and "exists" in p.stderr, p.stderr)
        os.unlink(core)
        p = subprocess.run([wherry, "run", "--engine", engine, "--core", core, guest, "--", "abort"], capture_output=True, text=True, timeout=60)
        check(f"{engine}: abort", p.returncode == 134 and "core file" in p.stderr, p.stderr)
        out = subprocess.run(["gdb", "-batch", "-nx", "-ex", "backtrace", guest, core], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        check(f"{engine}: abort and its caller", "signal SIGABRT" in out.stdout and re.search(r" in (raise|abort) ", out.stdout), out.stdout + out.stderr)
        os.unlink(core)
        p = subprocess.run([wherry, "run", "--engine", engine, "--core", core, guest], capture_output=True, text=True, timeout=60)
        check(f"{engine}: no fault, no core file", p.returncode == 7 and not os.path.exists(core), p.stderr)

    for where, message in (("nowhere", "say unix:PATH"), ("tcp:host:1", "numeric address"), (f"unix:{folder}/none/x", "cannot listen")):
        p = subprocess.run([wherry, "run", "--engine", "proc", "--gdb", where, guest], capture_output=True, text=True, timeout=30)
        check(f"bad {where}", p.returncode == 125 and message in p.stderr, p.stderr)

print("ok" if not failed else f"{failed} failed")
sys.exit(failed != 0)
