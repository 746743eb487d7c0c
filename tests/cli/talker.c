/* SPDX-License-Identifier: ISC */
/* Says each line that it reads, until one is "end"; "fill" makes it write 200 KiB first. */
#include <stdio.h>
#include <string.h>

int main(void)
{
	char line[512];
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof line, stdin)) {
		for (int i = 0; !strcmp(line, "fill\n") && i < 4096; i++)
			printf("%06d %042d\n", i, 0);
		printf("heard %s", line);
		if (!strcmp(line, "end\n"))
			return 3;
	}
	puts("silence");
	return 4;
}
