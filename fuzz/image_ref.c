/* References, platforms, and the challenges of registries.  Property: a reference that parses prints and parses back. */
#include <assert.h>
#include "image/auth.h"
#include "image/manifest.h"
#include "image/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = strndup((const char *)data, size), text[REF_MAX];
	struct image_platform pf;
	struct image_ref r, again;
	struct challenge c;

	if (ref_parse(s, &r, NULL) == 0) {
		assert(ref_parse(ref_format(&r, text), &again, NULL) == 0);
		assert(memcmp(&r, &again, sizeof(r)) == 0);
		assert(!strstr(r.path, "..") && r.path[0] != '/');
		ref_familiar(&r, text);
	}
	platform_parse(s, &pf, NULL);
	challenge_parse(s, &c);
	free(s);
	return 0;
}
