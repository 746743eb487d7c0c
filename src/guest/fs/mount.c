/* SPDX-License-Identifier: ISC */
#include <fs/vfs.h>
#include <wherry/abi/boot.h>
#include <wherry/base/errors.h>

/* Makes the directories of an absolute path that are missing. */
static int make_path(const char *path)
{
	char part[WH_BOOT_PATH_SIZE];
	struct fs_path p;
	for (uint32_t i = 1; i < sizeof part; i++) {
		if (path[i] && path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		int r = fs_walk(NULL, part, FS_WALK_FOLLOW | FS_WALK_MISSING, &p);
		if (r < 0)
			return r;
		if (!p.node)
			r = p.dir->ops->mkdir ? p.dir->ops->mkdir(p.dir, p.last, 0755)
					      : -WH_ENOTDIR;
		fs_path_fini(&p);
		if (r < 0 && r != -WH_EEXIST)
			return r;
		if (!path[i])
			return 0;
	}
	return -WH_ENAMETOOLONG;
}

int fs_mount(struct fs_super *super, const char *path)
{
	struct fs_path p;
	struct fs_super **end = &fs_supers;
	if (path[0] != '/')
		return -WH_EINVAL;
	int r = make_path(path);
	if (r >= 0)
		r = fs_walk(NULL, path, FS_WALK_FOLLOW, &p);
	if (r < 0)
		return r;
	super->covered = p.node;
	p.node = NULL;
	fs_path_fini(&p);
	super->covered->super->mounts_on++;
	while (*end) {
		super->dev = (*end)->dev + 1;
		end = &(*end)->next;
	}
	*end = super;
	return 0;
}
