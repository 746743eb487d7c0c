#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""One tiny guest per isolation property.

usage: run.py [--engine proc|kvm] [--weak WEAK_WHERRY] WHERRY IMAGES_DIR [CASE...]

Each case runs its image and compares exit status and message. With --weak the same
images run under a monitor that was built for this test alone and takes one protection
away (environment variable WHERRY_WEAKEN); the case must then come out otherwise: it
shows that the test can fail, and that the protection is what made it pass."""
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

BROKE, CANNOT_START, KILLED = 124, 126, 137

# name: (wanted status, pattern of standard error or output, protection taken away by the weak monitor or None)
CASES = {
    "write_text": (BROKE, r"fault.*writ.*\bmain\b", "text"),
    "write_constant": (BROKE, r"fault.*writ.*\bmain\b", "constants"),
    "execute_data": (BROKE, r"fault.*(execut|fetch)", "noexec"),
    "execute_stack": (BROKE, r"fault.*(execut|fetch)", "noexec"),
    "execute_heap": (BROKE, r"fault.*(execut|fetch)", "noexec"),
    "read_null": (BROKE, r"fault.*read.*0x8\b.*\bmain\b", "null"),
    "forbidden_call": (BROKE, r"forbidden system call", "filter"),
    "forbidden_argument": (BROKE, r"forbidden system call", "filter"),
    "compat_call": (BROKE, r"forbidden system call", "arch"),
    "socket_call": (BROKE, r"forbidden system call", "filter"),
    "smash_stack": (BROKE, r"stack smashing", None),
    "smash_stack_unprotected": (99, r"BROKEN", None),  # the same source without the compiler's guard
    "overflow_stack": (BROKE, r"fault.*: stack overflow", "guard"),
    "read_outside": (BROKE, r"fault.*read", "outside"),
    "bad_ring": (0, r"the monitor lives", "rings"),
    "fuzz_rings": (0, r"(?=.*device 1: [1-9])(?=.*device 2: [1-9])(?=.*device 9: [1-9]).*the monitor lives", None),
}
# In a virtual machine there is no host kernel behind `syscall`: the instruction faults.
KVM = {
    "forbidden_call": (BROKE, r"fault", None),
    "forbidden_argument": (BROKE, r"fault", None),
    "compat_call": (BROKE, r"fault", None),
    "socket_call": (BROKE, r"fault", None),
}
# What only ring 0 can try: the processor's second level of page tables is all that is left then.
KVM_ONLY = {
    "ring0_write_text": (BROKE, r"fault.*outside its memory, or write to its text", "slot"),
    "ring0_map_outside": (BROKE, r"fault.*outside its memory", "memory"),
    "ring0_triple_fault": (BROKE, r"triple fault", None),
}


def run(wherry, engine, image, extra=(), env=None, timeout=20):
    p = subprocess.run([wherry, "run", "--engine", engine, "--memory", "4M", *extra, image], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, env=env, errors="replace")
    status = p.returncode if p.returncode >= 0 else 128 - p.returncode
    return status, p.stdout


def never_answers(wherry, engine, image, env=None):
    """A guest that looks at nothing: the second SIGINT ends it, and nothing stays."""
    p = subprocess.Popen([wherry, "run", "--engine", engine, "--memory", "4M", image], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    p.stdout.readline()
    with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
        children = f.read().split()
    p.send_signal(signal.SIGINT)
    time.sleep(0.2)  # the first one must be taken apart from the second
    alive = p.poll() is None
    p.send_signal(signal.SIGINT)
    try:
        out, _ = p.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return "still there after two signals"
    left = [c for c in children if os.path.exists(f"/proc/{c}")]
    status = p.returncode if p.returncode >= 0 else 128 - p.returncode
    if not alive:
        return f"ended at the first signal with {status}: it cannot have answered"
    if status not in (KILLED, 130):
        return f"status {status}: {out.decode(errors='replace')}"
    return f"left processes {left}" if left else None


def monitor_dies(wherry, engine, image):
    """The monitor is killed outright: the guest must not outlive it."""
    p = subprocess.Popen([wherry, "run", "--engine", engine, "--memory", "4M", image], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    p.stdout.readline()
    with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
        children = f.read().split()
    p.kill()
    p.wait()
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{c}/exe") for c in children):
            return None
        time.sleep(0.02)
    return f"guest processes {children} outlived the monitor"


def monitor_dies_early(wherry, engine, image):
    """The monitor is killed at any moment of a start. Orphans come to this process (subreaper): all
    of them must end by themselves."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    for i in range(60):
        p = subprocess.Popen([wherry, "run", "--engine", engine, "--memory", "4M", image], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)
        time.sleep(i * 25e-6)
        p.kill()
        p.wait()
    for _ in range(250):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return None
        time.sleep(0.02)
    return "a guest's process outlived its monitor"


def empty_process(wherry, image):
    """What a proc guest has: the doorbell, its own memory, namespaces of its own, an empty root, no rights."""
    p = subprocess.Popen([wherry, "run", "--engine", "proc", "--memory", "4M", image], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    try:
        p.stdout.readline()
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            guest = f.read().split()[0]
        try:
            fds = [os.readlink(f"/proc/{guest}/fd/{fd}") for fd in os.listdir(f"/proc/{guest}/fd")]
        except PermissionError:
            print("note: only root can look into a guest's process")
            return None
        if fds != ["anon_inode:[eventfd]"]:
            return f"descriptors {fds}"
        for line in open(f"/proc/{guest}/maps"):
            access, name = line.split()[1], (line.split(None, 5) + [""])[5].strip()
            if "w" in access and "x" in access:
                return f"writable and executable: {line.strip()}"
            if name != "[vsyscall]" and not name.startswith(("/memfd:wherry", image)):
                return f"a foreign mapping: {line.strip()}"
        shared = [n for n in ("user", "pid", "mnt", "ipc", "uts", "cgroup")
                  if os.readlink(f"/proc/{guest}/ns/{n}") == os.readlink(f"/proc/self/ns/{n}")]
        if shared:
            return f"the host's namespaces {shared}"
        if os.listdir(f"/proc/{guest}/root/") or os.listdir(f"/proc/{guest}/cwd/"):
            return "its root is not empty"
        status = dict(line.rstrip("\n").split(":\t", 1) for line in open(f"/proc/{guest}/status") if ":\t" in line)
        if status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
            return "no filter, or it may gain privileges"
        rights = [k for k in ("CapPrm", "CapEff", "CapAmb") if int(status[k], 16)]
        return f"capabilities {rights}" if rights else None
    finally:
        p.kill()
        p.wait()


def mutated(image, work, name, change):
    data = bytearray(open(image, "rb").read())
    change(data)
    path = os.path.join(work, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def find_manifest(data):
    at = data.find(b"Wherry\0")
    return (at + 7 + 3) & ~3


def bad_files(image, work):
    """(name, file, pattern): each must be refused with 126 and one line."""
    def put(offset, size, value):
        def change(d):
            d[offset:offset + size] = value.to_bytes(size, "little")
        return change

    def phdr(kind, field, size, value):
        def change(d):
            phoff, count = int.from_bytes(d[32:40], "little"), int.from_bytes(d[56:58], "little")
            for i in range(count):
                at = phoff + 56 * i
                if int.from_bytes(d[at:at + 4], "little") == kind:
                    d[at + field:at + field + size] = value.to_bytes(size, "little")
                    return
        return change

    def manifest(field, size, value):
        def change(d):
            at = find_manifest(d) + field
            d[at:at + size] = value.to_bytes(size, "little")
        return change

    cases = [
        ("class", put(4, 1, 1)), ("machine", put(18, 2, 183)), ("type", put(16, 2, 1)),
        ("phoff", put(32, 8, 2**63)), ("phnum", put(56, 2, 65000)), ("phentsize", put(54, 2, 3)),
        ("load offset", phdr(1, 8, 8, 2**62)), ("load size", phdr(1, 32, 8, 2**62)),
        ("load memory", phdr(1, 40, 8, 2**62)), ("load writable and executable", phdr(1, 4, 4, 7)),
        ("interpreter", phdr(4, 0, 4, 3)),
        ("manifest version", manifest(0, 4, 99)), ("manifest size", manifest(4, 4, 8)),
        ("manifest boot version", manifest(8, 4, 7)), ("manifest flags", manifest(12, 4, 1 << 31)),
        ("manifest entry", manifest(16, 8, 0)), ("manifest entry outside", manifest(16, 8, 2**62)),
        ("manifest trap entry", manifest(24, 8, 2**40)), ("manifest memory", manifest(40, 8, 2**62)),
        ("manifest stack", manifest(56, 8, 2**62)), ("manifest name", lambda d: d.__setitem__(
            slice(find_manifest(d) + 64, find_manifest(d) + 128), b"x" * 64)),
        ("truncated header", lambda d: d.__delitem__(slice(40, None))),
        ("truncated segment", lambda d: d.__delitem__(slice(0x1800, None))),
        ("empty", lambda d: d.clear()),
    ]
    return [(n, mutated(image, work, f"bad-{i}", c)) for i, (n, c) in enumerate(cases)]


def main():
    args, engine, weak = sys.argv[1:], "proc", None
    while args and args[0].startswith("--"):
        if args[0] == "--engine":
            engine = args[1]
        elif args[0] == "--weak":
            weak = args[1]
        args = args[2:]
    wherry, images, only = args[0], args[1], args[2:]
    failures = count = 0
    work = tempfile.TemporaryDirectory()

    def report(name, problem):
        nonlocal failures, count
        count += 1
        failures += problem is not None
        print(("ok " if problem is None else "not ok ") + name + (f": {problem}" if problem else ""), flush=True)

    disk = os.path.join(work.name, "disk.raw")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    for name, wanted in CASES.items():
        if only and name not in only:
            continue
        if engine == "kvm" and name in KVM:
            wanted = KVM[name]
        if wanted is None:
            continue
        extra = ["--disk", f"ring={disk},format=raw"] if name in ("bad_ring", "fuzz_rings") else []
        if name == "fuzz_rings": # and all other devices; no frame may lead anywhere
            shared = os.path.join(work.name, "shared")
            os.makedirs(shared, exist_ok=True)
            extra += ["-v", f"{shared}:/shared", "-p", "127.0.0.1:0:80", "--deny", "*"]
        status, pattern, protection = wanted
        image = os.path.join(images, name)
        got, text = run(wherry, engine, image, extra)
        good = got == status and re.search(pattern, text, re.S)
        report(name, None if good else f"status {got}, wanted {status} and /{pattern}/: {text.strip()!r}")
        if name == "fuzz_rings":
            got, text = run(wherry, engine, image, ["-e", "CONSOLE=1"])
            report("fuzz_rings of the console", None if got == 7 else f"status {got}")
        if weak and protection:
            env = dict(os.environ, WHERRY_WEAKEN=protection)
            got, text = run(weak, engine, image, extra, env)
            if "skipped:" in text:
                print(f"note: without {protection}: {text.strip()}")
                continue
            still = got == status and re.search(pattern, text, re.S)
            report(f"{name} without {protection}", f"still ends the same way: {text.strip()!r}" if still else None)
    if not only or "never_answers" in only:
        report("never_answers", never_answers(wherry, engine, os.path.join(images, "never_answers")))
        if weak:
            env = dict(os.environ, WHERRY_WEAKEN="kill")
            problem = never_answers(weak, engine, os.path.join(images, "never_answers"), env)
            report("never_answers without kill", None if problem else "still ended")
        if engine == "proc":
            report("empty_process", empty_process(wherry, os.path.realpath(os.path.join(images, "never_answers"))))
        report("monitor_dies_early", monitor_dies_early(wherry, engine, os.path.join(images, "never_answers")))
        report("monitor_dies", monitor_dies(wherry, engine, os.path.join(images, "never_answers")))
    if not only or "bad_files" in only:
        for name, path in bad_files(os.path.join(images, "read_null"), work.name):
            got, text = run(wherry, engine, path)
            lines = text.strip().split("\n")
            good = got == CANNOT_START and len(lines) == 1 and lines[0].startswith("wherry: ")
            report(f"bad file: {name}", None if good else f"status {got}: {text.strip()!r}")
            if weak and name == "load writable and executable":
                got, text = run(weak, engine, path, env=dict(os.environ, WHERRY_WEAKEN="wx"))
                report(f"bad file: {name} without wx", None if got != CANNOT_START else "still refused")
    print(f"{count - failures} passed, {failures} failed")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main())
