/* SPDX-License-Identifier: ISC */

/*
 * The path walk. `at` is the directory reached so far and `rest` what is left of the
 * path. A link's target is put before the rest in a buffer of its own, so
 * the walk is a loop, and its frame stays small.
 */

#include <fs/vfs.h>
#include <kern/mem.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

struct walk {
	struct fs_node *at;
	const char *rest;
	char *links; /* LX_PATH_MAX bytes, or NULL; `rest` may point into it */
	uint32_t links_seen;
};

static void go(struct walk *w, struct fs_node *to)
{
	fs_node_unref(w->at);
	w->at = to;
}

/* The root of what is mounted on n, else n; consumes and gives a reference. */
static struct fs_node *cross(struct fs_node *n)
{
	bool again = n->super->mounts_on;
	while (again) {
		again = false;
		for (struct fs_super *s = fs_supers; s; s = s->next) {
			if (!s->covered || s->covered->super != n->super ||
			    s->covered->ino != n->ino)
				continue;
			fs_node_ref(s->root);
			fs_node_unref(n);
			n = s->root;
			again = n->super->mounts_on;
			break;
		}
	}
	return n;
}

static void go_up(struct walk *w)
{
	struct fs_name name;
	struct fs_node *n = w->at, *up;
	while (n == n->super->root && n->super->covered)
		n = n->super->covered;
	if (n == fs_supers->root || !n->ops->parent)
		return;
	up = n->ops->parent(n, &name);
	if (!up)
		return;
	fs_node_ref(up);
	go(w, up);
}

/* Cuts the next component off. Size 0: nothing is left. */
static struct fs_name next_name(struct walk *w, bool *ret_last, bool *ret_slash)
{
	struct fs_name n;
	while (*w->rest == '/')
		w->rest++;
	n.text = w->rest;
	while (*w->rest && *w->rest != '/')
		w->rest++;
	n.size = (uint32_t)(w->rest - n.text);
	*ret_slash = *w->rest == '/';
	while (*w->rest == '/')
		w->rest++;
	*ret_last = !*w->rest;
	return n;
}

static int follow(struct walk *w, struct fs_node *link, bool slash)
{
	if (++w->links_seen > LX_SYMLINKS_MAX)
		return -WH_ELOOP;
	if (!link->ops->readlink)
		return -WH_EINVAL;
	char *target = kern_alloc(LX_PATH_MAX);
	if (!target)
		return -WH_ENOMEM;
	int n = link->ops->readlink(link, target, LX_PATH_MAX);
	size_t rest = wh_strlen(w->rest);
	if (n <= 0 || (uint32_t)n + rest + 2 > LX_PATH_MAX) {
		kern_free(target, LX_PATH_MAX);
		return n < 0 ? n : n == 0 ? -WH_ENOENT : -WH_ENAMETOOLONG;
	}
	if (slash)
		target[n++] = '/';
	memcpy(target + n, w->rest, rest + 1);
	kern_free(w->links, LX_PATH_MAX);
	w->links = target;
	w->rest = target;
	if (*target == '/')
		go(w, fs_root());
	return 0;
}

static int lookup(struct walk *w, struct fs_name name, struct fs_node **ret_node)
{
	if (!w->at->ops->lookup)
		return -WH_ENOTDIR;
	if (name.size > LX_NAME_MAX)
		return -WH_ENAMETOOLONG;
	int r = w->at->ops->lookup(w->at, name, ret_node);
	if (r >= 0 && fs_node_is(*ret_node, LX_S_IFDIR))
		*ret_node = cross(*ret_node);
	return r;
}

static int found_missing(struct walk *w, struct fs_name name, bool slash, struct fs_path *p)
{
	if (name.size > LX_NAME_MAX)
		return -WH_ENAMETOOLONG;
	if (!w->at->ops->lookup)
		return -WH_ENOTDIR;
	p->dir = w->at;
	w->at = NULL;
	p->last = name;
	p->slash = slash;
	return 0;
}

/* One component; 1 = the walk is at its end and p filled in. */
static int step(struct walk *w, uint32_t flags, struct fs_path *p)
{
	bool last, slash;
	struct fs_node *n;
	struct fs_name name = next_name(w, &last, &slash);
	uint32_t dots = fs_name_dots(name);
	if (last && (flags & FS_WALK_PARENT)) {
		int e = found_missing(w, name, slash, p);
		return e < 0 ? e : 1;
	}
	if (!name.size || dots) {
		if (name.size && !fs_node_is(w->at, LX_S_IFDIR))
			return -WH_ENOTDIR;
		if (dots == 2)
			go_up(w);
		if (!last)
			return 0;
		p->slash = slash;
		p->last = name;
		p->node = w->at;
		w->at = NULL;
		return 1;
	}
	int r = lookup(w, name, &n);
	if (r == -WH_ENOENT && last && (flags & FS_WALK_MISSING)) {
		r = found_missing(w, name, slash, p);
		return r < 0 ? r : 1;
	}
	if (r < 0)
		return r;
	bool follows = !last || slash || (flags & FS_WALK_FOLLOW);
	if (follows && n->ops->jump) {
		struct fs_node *link = n;
		r = link->ops->jump(link, &n);
		fs_node_unref(link);
		if (r < 0)
			return r;
	} else if (follows && fs_node_is(n, LX_S_IFLNK)) {
		r = follow(w, n, slash);
		fs_node_unref(n);
		return r;
	}
	if (slash && !fs_node_is(n, LX_S_IFDIR)) {
		fs_node_unref(n);
		return -WH_ENOTDIR;
	}
	if (!last) {
		go(w, n);
		return 0;
	}
	p->slash = slash;
	p->last = name;
	p->node = n;
	p->dir = w->at;
	w->at = NULL;
	return 1;
}

int fs_walk(struct fs_node *start, const char *path, uint32_t flags, struct fs_path *ret_path)
{
	struct walk w = { .rest = path };
	struct fs_path p = { 0 };
	int r = 0;
	if (!*path)
		return -WH_ENOENT;
	w.at = *path == '/' || !start ? fs_root() : start;
	if (w.at == start)
		fs_node_ref(start);
	while (!r)
		r = step(&w, flags, &p);
	fs_node_unref(w.at);
	if (r < 0) {
		kern_free(w.links, LX_PATH_MAX);
		return r;
	}
	wh_assert(p.node || p.dir);
	p.links = w.links;
	*ret_path = p;
	return 0;
}

void fs_path_fini(struct fs_path *p)
{
	fs_node_unref(p->node);
	fs_node_unref(p->dir);
	kern_free(p->links, LX_PATH_MAX);
	memset(p, 0, sizeof *p);
}
