/* SPDX-License-Identifier: ISC */
#ifndef CC_H
#define CC_H

/* Parts of `wherry cc`. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/abi/manifest.h>

/* A list of words, ready for exec: at[count] is NULL. No memory ends the command. */
struct cc_words {
	char **at;
	size_t count, room;
};

__attribute__((noreturn)) void cc_out_of_memory(void);
void cc_push(struct cc_words *w, const char *word); /* keeps the pointer */
void cc_push_all(struct cc_words *w, const struct cc_words *from);
char *cc_join(const char *a, const char *b);
/* Pushes the argument, or if it is @FILE the words in that file. depth: 0. */
void cc_expand(struct cc_words *w, const char *argument, unsigned depth);

/* What the command line asks for. */
struct cc_request {
	struct cc_words args; /* to pass on */
	const char *output;
	const char *root;  /* --wherry-root */
	const char *name;  /* --wherry-name */
	const char *map;   /* the user's own -Map, or NULL */
	const char *asked; /* -print-file-name=ASKED */
	struct cc_words sources;
	struct wh_manifest manifest; /* what is not 0 replaces the linker script's figure */
	bool links;
	bool has_input;
	bool shared;
	bool other_abi; /* -m32, -mx32 */
	bool bare;      /* -nostdlib, -nostartfiles, -r: the user names everything */
	bool failed;    /* said why already */
};

/* Fills *r, which is zeroed, from the arguments. Errors were printed when r->failed. */
void cc_classify(struct cc_request *r, char **argv, int argc);

/* Runs a command to its end: its exit status, 128 + n after signal n. */
int cc_run(char **argv);
/* One line that the compiler prints, e.g. for -print-file-name=include; NULL = nothing. */
char *cc_ask(const struct cc_words *compiler, const char *question);
void cc_plain_language(void); /* for all commands that are run from now on */
/* A new file in $TMPDIR or /tmp whose name has that end: its descriptor, or -1 after
 * printing why. */
int cc_temporary(const char *end, char **ret_path);
void cc_temporary_remove(int fd, char *path); /* also of what was never made: -1, NULL */

/* An embedded archive (wherry/abi/archive.h) in temporary files; paths, or NULL. */
struct cc_archive {
	char *data;
	char *object; /* for the linker: an assembler source that includes `data` */
	int data_fd, object_fd;
};

/* Packs the folder `root`. 0, or an exit status after printing why. */
int cc_archive_build(const char *root, struct cc_archive *ret_archive);
void cc_archive_remove(struct cc_archive *archive);

/* Reads the linker's map: ret_text is the content of section .wherry.units (free it);
 * `missing` is called for each system call that is used and not implemented, with the
 * program's symbol that leads to it. The compiler's temporary objects are called as
 * `sources`, in the order of the command line. 0 or an exit status. */
int cc_units_read(const char *map_path, const char *const *sources, size_t source_count,
		  char **ret_text, void (*missing)(void *ctx, const char *call, const char *symbol),
		  void *ctx);

/* Adds a section that is not loaded to an ELF file, in place. 0, or an exit status
 * after printing why. */
int cc_section_add(const char *path, const char *name, const void *data, size_t size);

/* Writes the name and those of memory_min, memory_default and stack_size that are not 0
 * into the image's manifest. */
int cc_manifest_set(const char *path, const struct wh_manifest *values);

#endif
