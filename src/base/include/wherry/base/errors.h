/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_ERRORS_H
#define WHERRY_BASE_ERRORS_H

/*
 * Error values. Every fallible function returns int: >= 0 is the result, < 0 is
 * -WH_E*. Values are Linux's errno numbers on every architecture we build for,
 * so that host, guest and 9P2000.L agree without a table.
 */

#define WH_EPERM 1
#define WH_ENOENT 2
#define WH_ESRCH 3
#define WH_EINTR 4
#define WH_EIO 5
#define WH_ENXIO 6
#define WH_E2BIG 7
#define WH_ENOEXEC 8
#define WH_EBADF 9
#define WH_ECHILD 10
#define WH_EAGAIN 11
#define WH_ENOMEM 12
#define WH_EACCES 13
#define WH_EFAULT 14
#define WH_ENOTBLK 15
#define WH_EBUSY 16
#define WH_EEXIST 17
#define WH_EXDEV 18
#define WH_ENODEV 19
#define WH_ENOTDIR 20
#define WH_EISDIR 21
#define WH_EINVAL 22
#define WH_ENFILE 23
#define WH_EMFILE 24
#define WH_ENOTTY 25
#define WH_EFBIG 27
#define WH_ENOSPC 28
#define WH_ESPIPE 29
#define WH_EROFS 30
#define WH_EMLINK 31
#define WH_EPIPE 32
#define WH_EDOM 33
#define WH_ERANGE 34
#define WH_EDEADLK 35
#define WH_ENAMETOOLONG 36
#define WH_ENOSYS 38
#define WH_ENOTEMPTY 39
#define WH_ELOOP 40
#define WH_ENODATA 61
#define WH_ETIME 62
#define WH_EPROTO 71
#define WH_EBADMSG 74
#define WH_EOVERFLOW 75
#define WH_EILSEQ 84
#define WH_ENOTSOCK 88
#define WH_EDESTADDRREQ 89
#define WH_EMSGSIZE 90
#define WH_EPROTOTYPE 91
#define WH_ENOPROTOOPT 92
#define WH_EPROTONOSUPPORT 93
#define WH_ESOCKTNOSUPPORT 94
#define WH_EOPNOTSUPP 95
#define WH_EAFNOSUPPORT 97
#define WH_EADDRINUSE 98
#define WH_EADDRNOTAVAIL 99
#define WH_ENETDOWN 100
#define WH_ENETUNREACH 101
#define WH_ECONNABORTED 103
#define WH_ECONNRESET 104
#define WH_ENOBUFS 105
#define WH_EISCONN 106
#define WH_ENOTCONN 107
#define WH_ETIMEDOUT 110
#define WH_ECONNREFUSED 111
#define WH_EHOSTDOWN 112
#define WH_EHOSTUNREACH 113
#define WH_EALREADY 114
#define WH_EINPROGRESS 115
#define WH_ESTALE 116
#define WH_EDQUOT 122
#define WH_ECANCELED 125

#endif
