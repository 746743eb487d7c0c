/* SPDX-License-Identifier: ISC */

/* Files that show a text made when they were opened. */

#include <fs/vfs.h>
#include <kern/mem.h>
#include <wherry/base/errors.h>

struct text_file {
	struct fs_file file;
	char *text;
	uint32_t size, capacity;
};

static int64_t text_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			 bool nonblock)
{
	struct text_file *t = WH_CONTAINER_OF(f, struct text_file, file);
	if (offset >= t->size)
		return 0;
	return (int64_t)wh_iov_write(iov, (size_t)count, 0, t->text + offset, t->size - offset);
}

/* Settings below /proc/sys: written without effect. */
static int64_t text_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			  bool nonblock)
{
	return (int64_t)wh_iov_size(iov, (size_t)count);
}

static int64_t text_size(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct text_file, file)->size;
}

static void text_release(struct fs_file *f)
{
	struct text_file *t = WH_CONTAINER_OF(f, struct text_file, file);
	fs_node_unref(f->node);
	kern_free(t->text, t->capacity);
	kern_free(t, sizeof *t);
}

static const struct fs_file_ops text_ops = {
	.read = text_read,
	.write = text_write,
	.stat = fs_node_file_stat,
	.release = text_release,
	.size = text_size,
	.seekable = true,
	.kind = FS_KIND_NODE,
};

int fs_text_open(struct fs_node *n, char *text, uint32_t size, uint32_t capacity, uint32_t flags,
		 struct fs_file **ret_file)
{
	struct text_file *t = kern_alloc(sizeof *t);
	if (!t) {
		kern_free(text, capacity);
		return -WH_ENOMEM;
	}
	fs_file_init(&t->file, &text_ops, flags);
	fs_node_ref(n);
	t->file.node = n;
	t->text = text;
	t->size = size;
	t->capacity = capacity;
	*ret_file = &t->file;
	return 0;
}
