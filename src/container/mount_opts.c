/* Mount option words; see mount_opts.h. */
#include "container/mount_opts.h"

#include <string.h>
#include "base/str.h"
#include "sys/mountapi.h"

enum { SET = 1, CLR = 2, REC = 4 };

static const struct {
	const char *name;
	int how;
	uint64_t attr;
	const char *sb; /* the super block has its own flag of this name */
} attrs[] = {
	{ "ro", SET, MOUNT_ATTR_RDONLY, "ro" },
	{ "rw", CLR, MOUNT_ATTR_RDONLY, "rw" },
	{ "nosuid", SET, MOUNT_ATTR_NOSUID, NULL },
	{ "suid", CLR, MOUNT_ATTR_NOSUID, NULL },
	{ "nodev", SET, MOUNT_ATTR_NODEV, NULL },
	{ "dev", CLR, MOUNT_ATTR_NODEV, NULL },
	{ "noexec", SET, MOUNT_ATTR_NOEXEC, NULL },
	{ "exec", CLR, MOUNT_ATTR_NOEXEC, NULL },
	{ "nodiratime", SET, MOUNT_ATTR_NODIRATIME, NULL },
	{ "diratime", CLR, MOUNT_ATTR_NODIRATIME, NULL },
	{ "nosymfollow", SET, MOUNT_ATTR_NOSYMFOLLOW, NULL },
	{ "symfollow", CLR, MOUNT_ATTR_NOSYMFOLLOW, NULL },
	{ "noatime", SET, MOUNT_ATTR_NOATIME, NULL },
	{ "atime", CLR, MOUNT_ATTR_NOATIME, NULL },
	{ "strictatime", SET, MOUNT_ATTR_STRICTATIME, NULL },
	{ "nostrictatime", CLR, MOUNT_ATTR_STRICTATIME, NULL },
	{ "relatime", SET, MOUNT_ATTR_RELATIME, NULL },
	{ "norelatime", CLR, MOUNT_ATTR_RELATIME, NULL },
	{ "rro", SET | REC, MOUNT_ATTR_RDONLY, NULL },
	{ "rrw", CLR | REC, MOUNT_ATTR_RDONLY, NULL },
	{ "rnosuid", SET | REC, MOUNT_ATTR_NOSUID, NULL },
	{ "rsuid", CLR | REC, MOUNT_ATTR_NOSUID, NULL },
	{ "rnodev", SET | REC, MOUNT_ATTR_NODEV, NULL },
	{ "rdev", CLR | REC, MOUNT_ATTR_NODEV, NULL },
	{ "rnoexec", SET | REC, MOUNT_ATTR_NOEXEC, NULL },
	{ "rexec", CLR | REC, MOUNT_ATTR_NOEXEC, NULL },
	{ "rnodiratime", SET | REC, MOUNT_ATTR_NODIRATIME, NULL },
	{ "rdiratime", CLR | REC, MOUNT_ATTR_NODIRATIME, NULL },
	{ "rnosymfollow", SET | REC, MOUNT_ATTR_NOSYMFOLLOW, NULL },
	{ "rsymfollow", CLR | REC, MOUNT_ATTR_NOSYMFOLLOW, NULL },
	{ "rnoatime", SET | REC, MOUNT_ATTR_NOATIME, NULL },
	{ "ratime", CLR | REC, MOUNT_ATTR_NOATIME, NULL },
	{ "rstrictatime", SET | REC, MOUNT_ATTR_STRICTATIME, NULL },
	{ "rnostrictatime", CLR | REC, MOUNT_ATTR_STRICTATIME, NULL },
	{ "rrelatime", SET | REC, MOUNT_ATTR_RELATIME, NULL },
	{ "rnorelatime", CLR | REC, MOUNT_ATTR_RELATIME, NULL },
};

static const struct {
	const char *name;
	unsigned long flags;
} propagations[] = {
	{ "private", MS_PRIVATE },	 { "rprivate", MS_PRIVATE | MS_REC },
	{ "shared", MS_SHARED },	 { "rshared", MS_SHARED | MS_REC },
	{ "slave", MS_SLAVE },		 { "rslave", MS_SLAVE | MS_REC },
	{ "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE | MS_REC },
};

/* Flags of the super block that fsconfig() takes as words. */
static const char *const sb_words[] = { "sync", "dirsync", "lazytime", "mand" };
/* What is so anyway. */
static const char *const sb_default[] = { "async", "nolazytime", "nomand", "defaults" };
/* Taken as mount(8) takes them, and not advertised: they change nothing that a program could see. */
static const char *const sb_ignored[] = { "silent", "loud", "iversion", "noiversion", "acl" };

unsigned long propagation_from_name(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(propagations); i++)
		if (streq(name, propagations[i].name))
			return propagations[i].flags;
	return 0;
}

static bool attr_word(const char *w, struct mount_opts *o, const char **sb)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		uint64_t *set, *clr, bit = attrs[i].attr;

		if (!streq(w, attrs[i].name))
			continue;
		set = attrs[i].how & REC ? &o->rattr_set : &o->attr_set;
		clr = attrs[i].how & REC ? &o->rattr_clr : &o->attr_clr;
		/* The three access time modes are one field: clear all of it, then set one. */
		if (bit == MOUNT_ATTR_NOATIME || bit == MOUNT_ATTR_STRICTATIME ||
		    bit == MOUNT_ATTR_RELATIME) {
			*set &= ~(uint64_t)MOUNT_ATTR__ATIME;
			*clr |= MOUNT_ATTR__ATIME;
			if (attrs[i].how & SET)
				*set |= bit;
			return true;
		}
		if (attrs[i].how & SET) {
			*set |= bit;
			*clr &= ~bit;
		} else {
			*clr |= bit;
			*set &= ~bit;
		}
		*sb = attrs[i].sb;
		return true;
	}
	return false;
}

void mount_opts_parse(struct arena *a, char *const *words, struct mount_opts *ret)
{
	size_t n = words ? strv_len(words) : 0, n_sb = 0, i, k;
	int ro = -1;

	memset(ret, 0, sizeof(*ret));
	ret->sb = arena_alloc(a, (n + 2) * sizeof(*ret->sb));
	for (i = 0; i < n; i++) {
		const char *w = words[i], *sb = NULL;
		unsigned long prop = propagation_from_name(w);

		if (prop) {
			ret->propagation = prop;
			continue;
		}
		if (attr_word(w, ret, &sb)) {
			if (sb)
				ro = streq(sb, "ro");
			continue;
		}
		for (k = 0; k < ARRAY_SIZE(sb_default) && !streq(w, sb_default[k]); k++)
			;
		if (k < ARRAY_SIZE(sb_default))
			continue;
		for (k = 0; k < ARRAY_SIZE(sb_ignored) && !streq(w, sb_ignored[k]); k++)
			;
		if (k < ARRAY_SIZE(sb_ignored))
			continue;
		if (streq(w, "bind"))
			ret->bind = true;
		else if (streq(w, "rbind"))
			ret->bind = ret->rbind = true;
		else if (streq(w, "remount"))
			ret->remount = true;
		else if (streq(w, "tmpcopyup"))
			ret->tmpcopyup = true;
		else if (streq(w, "idmap"))
			ret->idmap = true;
		else if (streq(w, "ridmap"))
			ret->idmap = ret->ridmap = true;
		else
			ret->sb[n_sb++] = words[i];
	}
	if (ro == 1)
		ret->sb[n_sb++] = arena_strdup(a, "ro");
}

const char *const *mount_opt_names(void)
{
	static const char *all[ARRAY_SIZE(attrs) + ARRAY_SIZE(propagations) + ARRAY_SIZE(sb_words) +
			       ARRAY_SIZE(sb_default) + 8];
	size_t n = 0, i;

	if (all[0])
		return all;
	for (i = 0; i < ARRAY_SIZE(attrs); i++)
		all[n++] = attrs[i].name;
	for (i = 0; i < ARRAY_SIZE(propagations); i++)
		all[n++] = propagations[i].name;
	for (i = 0; i < ARRAY_SIZE(sb_words); i++)
		all[n++] = sb_words[i];
	for (i = 0; i < ARRAY_SIZE(sb_default); i++)
		all[n++] = sb_default[i];
	all[n++] = "bind";
	all[n++] = "rbind";
	all[n++] = "remount";
	all[n++] = "tmpcopyup";
	all[n++] = "idmap";
	all[n++] = "ridmap";
	return all;
}
