# SPDX-License-Identifier: ISC
# CMake toolchain: cmake -DCMAKE_TOOLCHAIN_FILE=.../wherry.cmake
# Not a cross build: what is built runs by itself (an image that is executed becomes `wherry run`).
find_program(WHERRY_COMMAND wherry
  HINTS ${CMAKE_CURRENT_LIST_DIR}/../../../bin ${CMAKE_CURRENT_LIST_DIR}/../src/cli ENV WHERRY)
set(CMAKE_C_COMPILER ${WHERRY_COMMAND} cc)
set(BUILD_SHARED_LIBS OFF CACHE BOOL "images have no dynamic linker")
# Libraries and headers of the host are of another C library.
set(CMAKE_FIND_ROOT_PATH ${CMAKE_CURRENT_LIST_DIR})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
