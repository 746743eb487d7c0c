/* SPDX-License-Identifier: ISC */
#include <fs/file.h>
#include <fs/linux.h>
#include <kern/poll.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

void fs_file_init(struct fs_file *f, const struct fs_file_ops *ops, uint32_t flags)
{
	wh_assert(ops && ops->release);
	f->ops = ops;
	f->refs = 1;
	f->flags = flags & LX_O_STATUS;
	f->position = 0;
	f->node = NULL;
	kern_waitq_init(&f->waitq);
}

void fs_file_ref(struct fs_file *f)
{
	wh_assert(f->refs > 0);
	f->refs++;
}

void fs_file_unref(struct fs_file *f)
{
	wh_assert(f->refs > 0);
	if (--f->refs)
		return;
	if (!wh_list_empty(&f->waitq.waiters))
		kern_waitq_wake(&f->waitq, KERN_POLLFREE, UINT32_MAX);
	f->ops->release(f);
}

int fs_file_wait(struct fs_file *f, bool nonblock)
{
	if (nonblock)
		return -WH_EAGAIN;
	fs_file_ref(f);
	int r = kern_wait(&f->waitq, KERN_FOREVER);
	/* Closed meanwhile by another thread: nobody will wake this file again. */
	if (f->refs == 1 && r >= 0)
		r = -WH_EBADF;
	fs_file_unref(f);
	return r;
}
