#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""The verbs of `wherry disk` against qemu-img: what one makes the other reads, JSON has the same names, exit
statuses are the same, bad input is told of in one line.

usage: disk.py WHERRY"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

WHERRY = os.path.abspath(sys.argv[1])
SIZE = 24 << 20
cases = []


def case(f):
    cases.append(f)
    return f


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def run(*command, status=0, stdin=None):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    check(status is None or p.returncode == status, f"{' '.join(command)}: status {p.returncode}: {p.stdout}{p.stderr}")
    return p.stdout


def disk(*arguments, status=0):
    return run(WHERRY, "disk", *arguments, status=status)


def refused(*arguments, status=125):
    p = subprocess.run([WHERRY, "disk", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    check(p.returncode == status and p.stderr.count("\n") == 1 and p.stderr.startswith("wherry: "),
          f"{arguments}: status {p.returncode}: {p.stderr}")
    return p.stderr


def qemu(*arguments, status=0):
    return run("qemu-img", *arguments, status=status)


def content(name, seed=1, size=SIZE):
    r = random.Random(seed)
    with open(name, "wb") as f:
        f.truncate(size)
        for at in range(0, size, 1 << 20):
            if r.randrange(3):
                f.seek(at + r.randrange(64) * 4096)
                f.write(r.randbytes(50000) if r.randrange(2) else b"text that packs well " * 9000)


def fresh(*names):
    for n in names:
        if os.path.exists(n):
            os.unlink(n)


def same(a, fa, b, fb):
    qemu("compare", "-f", fa, "-F", fb, a, b)
    disk("compare", "-q", "-f", fa, "-F", fb, a, b)


OPTIONS = ["", "compat=0.10", "cluster_size=512", "cluster_size=2M", "refcount_bits=1", "refcount_bits=64", "lazy_refcounts=on",
           "extended_l2=on,cluster_size=64k", "preallocation=metadata", "preallocation=falloc", "preallocation=full",
           "data_file=data.raw", "data_file=data.raw,data_file_raw=on", "compression_type=zstd"]


@case
def create():
    for o in OPTIONS:
        fresh("c.qcow2", "data.raw")
        disk("create", *(["-o", o] if o else []), "c.qcow2", "40M")
        qemu("check", "-q", "-f", "qcow2", "c.qcow2")
        mine, theirs = json.loads(disk("info", "--json", "c.qcow2")), json.loads(qemu("info", "--output=json", "c.qcow2"))
        for key in "virtual-size", "cluster-size", "format", "dirty-flag":
            check(mine[key] == theirs[key], f"{o}: {key}: {mine[key]} {theirs[key]}")
        for key in "compat", "refcount-bits", "lazy-refcounts", "compression-type", "extended-l2", "data-file", "data-file-raw":
            ours, others = mine["format-specific"]["data"], theirs["format-specific"]["data"]
            if key in others:
                check(ours.get(key) == others[key], f"{o}: {key}: {ours.get(key)} {others[key]}")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 5 1M 3M", "c.qcow2")
        check(disk("check", "c.qcow2").startswith("no errors"), "check")
    fresh("c.raw")
    disk("create", "-f", "raw", "--preallocation", "falloc", "c.raw", "4M")
    check(os.stat("c.raw").st_blocks * 512 >= 4 << 20, "no space was reserved")


@case
def convert():
    content("in.raw")
    for o in OPTIONS:
        for pack in ([], ["-c"]):
            if pack and "data_file" in o:
                continue
            fresh("o.qcow2", "data.raw", "back.raw")
            disk("convert", "-f", "raw", "-O", "qcow2", *pack, *(["-o", o] if o else []), "in.raw", "o.qcow2")
            same("in.raw", "raw", "o.qcow2", "qcow2")
            qemu("check", "-q", "-f", "qcow2", "o.qcow2")
            fresh("q.qcow2", "data.raw2")
            if "preallocation" not in o and "data_file" not in o:
                qemu("convert", "-f", "raw", "-O", "qcow2", *pack, *(["-o", o] if o else []), "in.raw", "q.qcow2")
                disk("convert", "-f", "qcow2", "q.qcow2", "back.raw")
                same("in.raw", "raw", "back.raw", "raw")
                check(os.stat("back.raw").st_blocks < os.stat("in.raw").st_blocks * 1.3 + 200, "zeroes were written")
    fresh("w.raw")
    disk("convert", "-f", "raw", "--skip", "1M", "--count", "2M", "in.raw", "w.raw")
    check(open("w.raw", "rb").read() == open("in.raw", "rb").read()[1 << 20:3 << 20], "window")
    content("other.raw", 2)
    fresh("n.qcow2")
    disk("convert", "-f", "raw", "-O", "qcow2", "other.raw", "n.qcow2")
    disk("convert", "-n", "-f", "raw", "-O", "qcow2", "in.raw", "n.qcow2")
    same("in.raw", "raw", "n.qcow2", "qcow2")
    p = subprocess.run([WHERRY, "disk", "convert", "--progress", "-n", "-f", "raw", "-O", "qcow2", "in.raw", "n.qcow2"],
                       stderr=subprocess.PIPE, text=True)
    check(json.loads(p.stderr.splitlines()[-1])["progress"] == 1, f"progress: {p.stderr}")
    fresh("rel.qcow2")
    disk("convert", "-f", "raw", "-O", "qcow2", "-B", "other.raw", "-F", "raw", "in.raw", "rel.qcow2")
    same("in.raw", "raw", "rel.qcow2", "qcow2")


@case
def backing():
    content("base.raw", 3)
    fresh("top.qcow2", "mid.qcow2")
    disk("create", "-b", "base.raw", "-F", "raw", "mid.qcow2")
    disk("create", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2", "30M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1000k 100k", "-c", "write -z 3M 1M", "-c", "write -P 8 25M 64k", "top.qcow2")
    mine = json.loads(disk("info", "--json", "top.qcow2"))
    check((mine["backing-filename"], mine["backing-filename-format"]) == ("mid.qcow2", "qcow2"), f"{mine}")
    fresh("flat.raw", "qflat.raw")
    disk("convert", "-f", "qcow2", "top.qcow2", "flat.raw")
    qemu("convert", "-f", "qcow2", "-O", "raw", "top.qcow2", "qflat.raw")
    same("flat.raw", "raw", "qflat.raw", "raw")
    theirs = json.loads(qemu("map", "--output=json", "-f", "qcow2", "top.qcow2"))
    mine = json.loads(disk("map", "--json", "-f", "qcow2", "top.qcow2"))

    def spread(extents):
        out = {}
        for e in extents:
            for at in range(e["start"], e["start"] + e["length"], 65536):
                out[at] = (e["depth"] if e["data"] else None, e["data"])
        return out
    a, b = spread(theirs), spread(mine)
    differ = [at for at in a if at in b and a[at] != b[at]]
    check(a.keys() == b.keys() and not differ, f"map: {[(at, a[at], b[at]) for at in differ[:3]]}")
    fresh("new.raw")
    content("new.raw", 4, 26 << 20)
    shutil.copy("top.qcow2", "re.qcow2")
    disk("rebase", "-b", "new.raw", "-F", "raw", "re.qcow2")
    same("flat.raw", "raw", "re.qcow2", "qcow2")
    disk("rebase", "-b", "", "re.qcow2")
    same("flat.raw", "raw", "re.qcow2", "qcow2")
    qemu("check", "-q", "re.qcow2")
    disk("commit", "top.qcow2")
    same("flat.raw", "raw", "top.qcow2", "qcow2")
    same("flat.raw", "raw", "mid.qcow2", "qcow2")
    qemu("check", "-q", "mid.qcow2")
    qemu("check", "-q", "top.qcow2")
    # An image may not name any file it likes.
    os.makedirs("sub", exist_ok=True)
    fresh("sub/evil.qcow2")
    qemu("create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.abspath("base.raw"), "sub/evil.qcow2")
    check("follow" in refused("convert", "-f", "qcow2", "sub/evil.qcow2", "sub/out.raw"), "outside")
    disk("convert", "--follow", "any", "-f", "qcow2", "sub/evil.qcow2", "sub/out.raw")
    same("base.raw", "raw", "sub/out.raw", "raw")
    refused("convert", "--follow", "none", "-f", "qcow2", "mid.qcow2", "sub/o.raw")


@case
def snapshots():
    content("in.raw")
    fresh("s.qcow2", "was.raw", "x.raw")
    disk("convert", "-f", "raw", "-O", "qcow2", "in.raw", "s.qcow2")
    disk("snapshot", "-c", "first", "s.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 24M", "s.qcow2")
    qemu("check", "-q", "s.qcow2")
    theirs = json.loads(qemu("info", "--output=json", "s.qcow2"))["snapshots"]
    mine = json.loads(disk("snapshot", "--json", "s.qcow2"))
    check([(s["id"], s["name"], s["date-sec"]) for s in theirs] == [(s["id"], s["name"], s["date-sec"]) for s in mine], f"{mine}")
    disk("convert", "-l", "first", "-f", "qcow2", "s.qcow2", "was.raw")
    same("in.raw", "raw", "was.raw", "raw")
    qemu("snapshot", "-c", "second", "s.qcow2")
    disk("snapshot", "-a", "first", "s.qcow2")
    same("in.raw", "raw", "s.qcow2", "qcow2")
    disk("snapshot", "-d", "first", "s.qcow2")
    disk("snapshot", "-d", "second", "s.qcow2")
    qemu("check", "-q", "s.qcow2")
    same("in.raw", "raw", "s.qcow2", "qcow2")
    refused("snapshot", "-a", "first", "s.qcow2")
    refused("snapshot", "-a", "first", "-d", "x", "s.qcow2")


@case
def resize():
    content("in.raw")
    for fmt in "raw", "qcow2":
        fresh("r")
        disk("convert", "-f", "raw", "-O", fmt, "in.raw", "r")
        disk("resize", "-f", fmt, "r", "+8M")
        check(json.loads(disk("info", "--json", "-f", fmt, "r"))["virtual-size"] == SIZE + (8 << 20), "grown")
        same("in.raw", "raw", "r", fmt)
        check("--shrink" in refused("resize", "-f", fmt, "r", "10M"), "shrink")
        disk("resize", "--shrink", "-f", fmt, "r", "10M")
        check(json.loads(qemu("info", "--output=json", "-f", fmt, "r"))["virtual-size"] == 10 << 20, "shrunk")
        if fmt == "qcow2":
            qemu("check", "-q", "r")
    # bitmaps are of a disk of the old size: not to be trusted any more, but no reason to refuse
    for size in "32M", "4M":
        fresh("b.qcow2")
        qemu("create", "-q", "-f", "qcow2", "b.qcow2", "16M")
        qemu("bitmap", "--add", "b.qcow2", "on")
        qemu("bitmap", "--add", "--disable", "b.qcow2", "off")
        disk("resize", "--shrink", "-f", "qcow2", "b.qcow2", size)
        bitmaps = json.loads(qemu("info", "--output=json", "b.qcow2"))["format-specific"]["data"]["bitmaps"]
        check(sorted(b["name"] for b in bitmaps) == ["off", "on"] and all("in-use" in b["flags"] for b in bitmaps), f"{bitmaps}")
        qemu("check", "-q", "b.qcow2")
        qemu("bitmap", "--remove", "b.qcow2", "on")
    refused("resize", "-f", "raw", "r", "0")
    refused("resize", "-f", "raw", "r", "much")


def counts(f):
    """Where the first refcount block is."""
    f.seek(48)
    f.seek(int.from_bytes(f.read(8), "big"))
    return int.from_bytes(f.read(8), "big")


@case
def checks():
    fresh("k.qcow2")
    disk("create", "k.qcow2", "16M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 4M", "k.qcow2")
    with open("k.qcow2", "r+b") as f:  # a leak: counts of the refcount block behind what is used
        size = f.seek(0, 2) + 65535 & ~65535
        f.truncate(size + 65536)
        f.seek(counts(f) + 2 * (size >> 16))
        f.write(b"\0\1")
    check(disk("check", "-q", "k.qcow2", status=3) == "", "quiet")
    check(json.loads(disk("check", "--json", "k.qcow2", status=3))["leaks"] == json.loads(
        qemu("check", "--output=json", "k.qcow2", status=3))["leaks"], "leaks")
    disk("check", "-r", "leaks", "k.qcow2")
    qemu("check", "-q", "k.qcow2")
    with open("k.qcow2", "r+b") as f:  # a corruption: a count that is too low
        f.seek(counts(f) + 2 * 8)
        f.write(b"\0\0")
    disk("check", "k.qcow2", status=2)
    qemu("check", "-q", "k.qcow2", status=2)
    disk("repair", "k.qcow2")
    qemu("check", "-q", "k.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "read -P 5 0 4M", "k.qcow2")
    # a cluster that is used twice in an image whose counts have one bit: no count can say that, so it is not repaired
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", "k1.qcow2", "16M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 128K", "k1.qcow2")
    with open("k1.qcow2", "r+b") as f:
        f.seek(40)
        f.seek(int.from_bytes(f.read(8), "big"))
        table = int.from_bytes(f.read(8), "big") & (1 << 56) - 512
        f.seek(table)
        entry = f.read(8)
        f.write(entry)
    disk("check", "-r", "all", "k1.qcow2", status=2)
    disk("check", "k1.qcow2", status=2)
    check(b"repairing it failed" in subprocess.run([WHERRY, "disk", "snapshot", "-c", "s", "k1.qcow2"], capture_output=True).stderr,
          "an image that cannot be repaired is not written")
    disk("create", "-f", "raw", "k.raw", "1M")
    refused("check", "-f", "raw", "k.raw", status=63)
    refused("check", "k.raw")


@case
def packs_differences():
    """convert -c over a backing file: only what differs, packed; and -n -c over an image with content."""
    content("base.raw", 3)
    with open("base.raw", "rb") as f:
        a = bytearray(f.read())
    for at in 1 << 20, 5 << 20, 9 << 20:
        a[at:at + 200000] = b"changed " * 25000
    a[2 << 20:3 << 20] = bytes(1 << 20)
    with open("new.raw", "wb") as f:
        f.write(a)
    for o in "", "compression_type=zstd", "cluster_size=4k":
        fresh("d.qcow2")
        out = json.loads(disk("convert", "--json", "-c", "-f", "raw", "-O", "qcow2", "-B", "base.raw", "-F", "raw",
                              *(["-o", o] if o else []), "new.raw", "d.qcow2"))
        check(out["virtual-size"] == SIZE and out["format"] == "qcow2", f"{out}")
        qemu("check", "-q", "d.qcow2")
        same("new.raw", "raw", "d.qcow2", "qcow2")
        info = json.loads(qemu("info", "--output=json", "d.qcow2"))
        check(info["backing-filename"] == "base.raw" and info["actual-size"] < 1 << 20, f"{info}")
        compressed = json.loads(qemu("check", "--output=json", "d.qcow2"))["compressed-clusters"]
        check(compressed > 5, f"{o}: {compressed} compressed")
        disk("convert", "-n", "-c", "-f", "raw", "-O", "qcow2", "base.raw", "d.qcow2")
        qemu("check", "-q", "d.qcow2")
        same("base.raw", "raw", "d.qcow2", "qcow2")
    fresh("e.qcow2")
    disk("convert", "-f", "raw", "-O", "qcow2", "-S", "0", "base.raw", "e.qcow2")
    disk("convert", "-n", "-c", "-f", "raw", "-O", "qcow2", "new.raw", "e.qcow2")
    same("new.raw", "raw", "e.qcow2", "qcow2")
    fresh("f.qcow2")
    disk("create", "-b", "base.raw", "-F", "raw", "f.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 1M", "f.qcow2")
    check(json.loads(disk("rebase", "--json", "-b", "", "f.qcow2"))["backing-filename"] == "", "rebase")
    disk("rebase", "-u", "-b", "base.raw", "-F", "raw", "f.qcow2")
    out = json.loads(disk("commit", "--json", "f.qcow2"))
    check(out["backing-filename"] == "base.raw" and out["emptied"], f"{out}")
    check(json.loads(disk("resize", "--json", "-f", "qcow2", "f.qcow2", "+1M"))["virtual-size"] == SIZE + (1 << 20), "resize")
    check([s["name"] for s in json.loads(disk("snapshot", "--json", "-c", "x", "f.qcow2"))] == ["x"], "snapshot")


@case
def read_errors_are_told():
    """A source that cannot be read is no source of zeroes (CVE-2022-0485 of nbdcopy)."""
    content("in.raw")
    fresh("bad.qcow2", "out.raw", "out.qcow2")
    disk("convert", "-c", "-f", "raw", "-O", "qcow2", "in.raw", "bad.qcow2")
    with open("bad.qcow2", "r+b") as f:
        f.seek(300000)
        f.write(b"\xff" * 200000)
    check("reading failed" in refused("convert", "-f", "qcow2", "bad.qcow2", "out.raw"), "raw")
    check("reading failed" in refused("convert", "-f", "qcow2", "-O", "qcow2", "bad.qcow2", "out.qcow2"), "qcow2")


@case
def compacts():
    fresh("p.qcow2")
    disk("create", "p.qcow2", "32M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 24M", "-c", "discard 0 16M", "p.qcow2")
    before = os.stat("p.qcow2").st_size
    d = json.loads(disk("compact", "--json", "p.qcow2"))
    check(d["file-size"] == os.stat("p.qcow2").st_size < before - (12 << 20), f"{before} {d}")
    qemu("check", "-q", "p.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "read -P 0 0 16M", "-c", "read -P 5 16M 8M", "p.qcow2")


@case
def measures():
    content("in.raw")
    for o in "", "cluster_size=4k", "extended_l2=on":
        a = json.loads(disk("measure", "--json", "-f", "raw", *(["-o", o] if o else []), "in.raw"))
        b = json.loads(qemu("measure", "--output=json", "-O", "qcow2", "-f", "raw", *(["-o", o] if o else []), "in.raw"))
        check(a["fully-allocated"] == b["fully-allocated"], f"{o}: {a} {b}")
    a = json.loads(disk("measure", "--json", "--size", "1T"))
    b = json.loads(qemu("measure", "--output=json", "-O", "qcow2", "--size", "1T"))
    check(all(a[k] == b[k] for k in a), f"{a} {b}")


@case
def compares():
    content("a.raw", 5)
    shutil.copy("a.raw", "b.raw")
    with open("b.raw", "r+b") as f:
        f.seek(5000001)
        f.write(b"!")
    check(json.loads(disk("compare", "--json", "a.raw", "b.raw", status=1))["offset"] == 5000001, "offset")
    shutil.copy("a.raw", "b.raw")
    os.truncate("b.raw", SIZE + 4096)
    disk("compare", "a.raw", "b.raw")
    disk("compare", "-s", "a.raw", "b.raw", status=1)
    refused("compare", "a.raw", "none.raw")


@case
def bad_input():
    disk("create", "z.qcow2", "1M")
    for words in (["create"], ["create", "x.qcow2"], ["create", "x.qcow2", "0"], ["create", "x.qcow2", "1X"], ["create", "z.qcow2", "1M"],
                  ["create", "-f", "vmdk", "x", "1M"], ["create", "-o", "nonsense=1", "x", "1M"], ["create", "-o", "cluster_size=3k", "x", "1M"],
                  ["create", "-o", "cluster_size", "x", "1M"], ["create", "-o", "compat=9", "x", "1M"], ["create", "-b", "base.raw", "x", "1M"],
                  ["create", "-b", "nothere", "-F", "raw", "x", "1M"], ["create", "-f", "raw", "-b", "z.qcow2", "-F", "qcow2", "x", "1M"],
                  ["create", "nowhere/x", "1M"], ["create", "x", "9999999T"], ["create", "a", "1M", "b"], ["info"], ["info", "nothere"],
                  ["info", "/"], ["info", "--nonsense", "z.qcow2"], ["map", "z.qcow2"], ["convert", "z.qcow2"],
                  ["convert", "-f", "raw", "-O", "raw", "-c", "z.qcow2", "x"], ["convert", "-f", "qcow2", "z.qcow2", "z.qcow2"],
                  ["convert", "-f", "qcow2", "-S", "1000", "z.qcow2", "x"], ["convert", "-f", "qcow2", "--skip", "2M", "z.qcow2", "x"],
                  ["check", "-r", "some", "z.qcow2"], ["commit", "z.qcow2"], ["rebase", "z.qcow2"], ["rebase", "-b", "x", "z.qcow2"],
                  ["snapshot", "-c", "", "z.qcow2"], ["measure"], ["measure", "--size", "1M", "z.qcow2"], ["explode", "z.qcow2"],
                  ["compact", "-f", "raw", "z.qcow2"], ["serve"], ["serve", "-f", "qcow2", "-p", "99999", "z.qcow2"],
                  ["serve", "-f", "qcow2", "--tls", "on", "z.qcow2"], ["serve", "-f", "qcow2", "--add", "x", "z.qcow2"],
                  ["serve", "-f", "qcow2", "--tls-certificates", "nothere", "z.qcow2"], ["serve", "-k", "s", "-f", "qcow2", "nothere"],
                  ["serve", "-f", "qcow2", "-k", "s", "-p", "1", "z.qcow2"], ["serve", "-f", "qcow2", "-k", "nowhere/s", "z.qcow2"]):
        refused(*words)
    check(not os.path.exists("x"), "something was left")
    header = bytearray(open("z.qcow2", "rb").read())
    for at, value in ((20, b"\0\0\0\x40"), (36, b"\x7f\xff\xff\xff"), (40, b"\0" * 6 + b"\1\1"), (72, b"\x80" + b"\0" * 7), (96, b"\0\0\0\x09")):
        bad = bytearray(header)
        bad[at:at + len(value)] = value
        with open("bad.qcow2", "wb") as f:
            f.write(bad)
        refused("convert", "-f", "qcow2", "bad.qcow2", "x")
        run(WHERRY, "disk", "check", "bad.qcow2", status=None)
    check(not os.path.exists("x"), "something was left")


if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
    print("skipped: no qemu-img and qemu-io (package qemu-utils)")
    sys.exit(77)
folder = tempfile.mkdtemp(prefix="wherry-disk-")
os.chdir(folder)
bad = 0
try:
    for f in cases:
        try:
            f()
            print(f"ok {f.__name__}")
        except (AssertionError, subprocess.TimeoutExpired, OSError, ValueError, KeyError) as e:
            print(f"not ok {f.__name__}: {e!r}")
            bad += 1
finally:
    os.chdir("/")
    shutil.rmtree(folder)
print(f"{len(cases) - bad} of {len(cases)} passed")
sys.exit(bool(bad))
