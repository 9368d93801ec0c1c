/* OVF descriptors.  Property: no file name that came out leads anywhere but beside the descriptor. */
#include <assert.h>
#include "base/str.h"
#include "image/ovf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ovf o;

	if (ovf_parse((const char *)data, size, &o, NULL) == 0) {
		assert(o.n_disks <= OVF_DISKS_MAX);
		for (size_t i = 0; i < o.n_disks; i++)
			assert(o.disks[i].file[0] && o.disks[i].file[0] != '.' &&
			       !strchr(o.disks[i].file, '/'));
	}
	return 0;
}
