/* SPDX-License-Identifier: ISC */
/* The guest of embed.c: answers each line of its input. Ends with the input; its status is the number of lines. */
#include <stdio.h>

int main(int argc, char **argv)
{
	char line[200];
	int lines = 0;
	while (fgets(line, sizeof line, stdin)) {
		printf("%s got: %s", argv[1], line);
		fflush(stdout);
		lines++;
	}
	return lines;
}
