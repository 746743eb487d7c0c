/* SPDX-License-Identifier: ISC */
/* wherry cc -O2 hello.c -o hello && wherry run hello */
#include <stdio.h>

int main(int argc, char **argv)
{
	printf("hello, %s\n", argc > 1 ? argv[1] : "world");
	return 0;
}
