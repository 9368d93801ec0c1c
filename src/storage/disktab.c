/* Every driver, format and filter: the only file that names them all.  The order of formats is the order of
 * probing. */
#include <string.h>
#include "storage/disk_ops.h"

extern const struct disk_ops disk_driver_file, disk_driver_mem, disk_driver_nbd;
extern const struct disk_ops disk_format_raw, disk_format_qcow2;
extern const struct disk_ops disk_filter_fault, disk_filter_stats, disk_filter_throttle;

const struct disk_ops *const disk_table[] = {
	&disk_driver_file,  &disk_driver_mem,	&disk_driver_nbd,   &disk_format_raw,
	&disk_format_qcow2, &disk_filter_fault, &disk_filter_stats, &disk_filter_throttle,
};
const size_t disk_table_len = ARRAY_SIZE(disk_table);

const struct disk_ops *disk_find_ops(enum disk_kind kind, const char *name)
{
	for (size_t i = 0; i < disk_table_len; i++)
		if (disk_table[i]->kind == kind && strcmp(disk_table[i]->name, name) == 0)
			return disk_table[i];
	return NULL;
}
