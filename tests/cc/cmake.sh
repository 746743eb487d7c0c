#!/bin/sh
# SPDX-License-Identifier: ISC
# The CMake toolchain file: a library, a probe, a program and a test.
. "$(dirname "$0")/functions.sh"
command -v cmake >/dev/null || { echo "no cmake here"; exit 77; }

cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.13)
project(greet C)
include(CheckFunctionExists)
include(CheckLibraryExists)
find_library(Z z)
check_function_exists(epoll_create1 HAVE_EPOLL)
check_function_exists(gnu_get_libc_version HAVE_GLIBC)
add_library(greet greet.c)
add_executable(main main.c)
target_link_libraries(main greet m)
if(HAVE_EPOLL AND NOT HAVE_GLIBC AND NOT Z)
  target_compile_definitions(main PRIVATE TRUTH=1)
endif()
enable_testing()
add_test(NAME main COMMAND main argument)
END
echo 'int greet(void) { return 0; }' >greet.c
cat >main.c <<'END'
#include <stdio.h>
int greet(void);
int main(int argc, char **argv) { return TRUTH == 1 && argc == 2 ? greet() : 1; }
END
sysroot=$(dirname "$(dirname "$($CC -print-file-name=libc.a)")")
ok configure cmake -S . -B b -DCMAKE_TOOLCHAIN_FILE="$sysroot/wherry.cmake"
ok build cmake --build b
PATH=$(dirname "$WHERRY"):$PATH
export PATH
cd b || exit 1
ok test ctest
end
