#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Installs the kits into a folder of its own and uses them as a program of somebody else does: pkg-config, shared
and static, C and C++.

usage: installed.py BUILD SOURCE PREFIX"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

build, source, prefix = sys.argv[1:4]
if not shutil.which("pkg-config") or not shutil.which("meson"):
    print("skipped: pkg-config or meson is not installed")
    sys.exit(77)
here = tempfile.mkdtemp(prefix="wherry-installed-")
cc = os.environ.get("CC", "cc").split()
root = here + "/root"


def run(*command, **kwargs):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)
    if p.returncode:
        sys.exit(f"not ok: {' '.join(command)}\n{p.stdout}")
    return p.stdout


try:
    run("meson", "install", "-C", build, "--no-rebuild", "--tags", "devel,runtime", env=dict(os.environ, DESTDIR=root))
    files = glob.glob(root + prefix + "/lib/**/pkgconfig/libwherry-*.pc", recursive=True)
    kits = sorted(os.path.basename(f)[:-3] for f in files)
    if "libwherry-net" not in kits:
        sys.exit(f"not ok: pkg-config files installed: {kits}")
    folder = os.path.dirname(os.path.dirname(files[0]))
    env = dict(os.environ, PKG_CONFIG_LIBDIR=folder + "/pkgconfig", PKG_CONFIG_SYSROOT_DIR=root)
    flags = run("pkg-config", "--cflags", "--libs", "libwherry-net", env=env).split()
    netkit = source + "/examples/netkit/netkit.c"
    run(*cc, "-Wall", "-o", here + "/netkit", netkit, *flags)
    print(run(sys.executable, source + "/tests/kits/netkit.py", here + "/netkit", folder), end="")
    flags = run("pkg-config", "--static", "--cflags", "--libs", "libwherry-net", env=env).split()
    run(*cc, "-static", "-o", here + "/netkit-static", netkit, *flags)
    run(sys.executable, source + "/tests/kits/netkit.py", here + "/netkit-static")
    print("ok static, too")
    flags = run("pkg-config", "--cflags", "--libs", "libwherry-block", env=env).split()
    run(*cc, "-Wall", "-o", here + "/diskkit", source + "/examples/diskkit/diskkit.c", *flags)
    print(run(sys.executable, source + "/tests/kits/diskkit.py", here + "/diskkit", folder), end="")
    flags = run("pkg-config", "--cflags", "--libs", "libwherry-vmm", env=env).split()
    run(*cc, "-Wall", "-o", here + "/embed", source + "/examples/embed/embed.c", *flags)
    image = build + "/tests/kits/embed-guest"
    if os.path.exists(image):
        print(run(sys.executable, source + "/tests/kits/embed.py", here + "/embed", image, folder), end="")
    include = root + prefix + "/include"
    headers = [os.path.relpath(h, include) for h in glob.glob(include + "/wherry/**/*.h", recursive=True)]
    everything = "".join(f"#include <{h}>\n" for h in sorted(headers)) + "int main(void) { return 0; }\n"
    flags = run("pkg-config", "--cflags", "--libs", *kits, env=env).split()
    languages = [("c", cc), ("c++", [os.environ.get("CXX", "g++")])]
    for language, compiler in languages:
        if not shutil.which(compiler[0]):
            print(f"note: no {compiler[0]} here")
            continue
        run(*compiler, "-Wall", "-x", language, "-", "-o", here + "/all", *flags, input=everything)
        print(f"ok {len(headers)} headers of {len(kits)} kits in one {language} program")
finally:
    shutil.rmtree(here)
