/* newc: a header of hexadecimal numbers, the name, the data, each padded to four bytes. */
#include "image/cpio.h"

#include <string.h>
#include <sys/stat.h>

static void pad(struct cpio *c)
{
	while (c->out.len % 4 && buf_addc(&c->out, '\0') == 0)
		;
}

static void entry(struct cpio *c, const char *path, mode_t mode, unsigned int major,
		  unsigned int minor, const void *data, size_t len)
{
	size_t name = strlen(path) + 1;

	buf_addf(&c->out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->ino,
		 (unsigned int)mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0, (unsigned int)len, 0, 0, major,
		 minor, (unsigned int)name, 0);
	buf_add(&c->out, path, name);
	pad(c);
	buf_add(&c->out, data, len);
	pad(c);
}

void cpio_dir(struct cpio *c, const char *path, mode_t mode)
{
	entry(c, path, S_IFDIR | mode, 0, 0, NULL, 0);
}

void cpio_file(struct cpio *c, const char *path, mode_t mode, const void *data, size_t len)
{
	entry(c, path, S_IFREG | mode, 0, 0, data, len);
}

void cpio_node(struct cpio *c, const char *path, mode_t mode, unsigned int major,
	       unsigned int minor)
{
	entry(c, path, S_IFCHR | mode, major, minor, NULL, 0);
}

void cpio_finish(struct cpio *c)
{
	c->ino = UINT32_MAX; /* becomes 0 */
	entry(c, "TRAILER!!!", 0, 0, 0, NULL, 0);
	while (c->out.len % 512 && buf_addc(&c->out, '\0') == 0)
		;
}
