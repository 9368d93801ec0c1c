/* Manifests, indexes and configs from registries.  Property: what parses has only valid digests, and a manifest that
 * is written from it parses to the same. */
#include <assert.h>
#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(doc_done) struct image_doc d = { 0 }, again = { 0 };
	_cleanup_(config_done) struct image_config c = { 0 };
	_cleanup_(buf_done) struct buf b = { 0 };
	struct image_platform pf;
	struct image_desc pick;
	struct digest check;

	platform_host(&pf);
	if (doc_parse((const char *)data, size, NULL, &d, NULL) == 0) {
		for (size_t i = 0; i < d.list.n; i++)
			assert(digest_parse(d.list.v[i].digest.s, &check) == 0);
		if (d.kind == DOC_INDEX) {
			doc_pick(&d, &pf, &pick, NULL);
		} else if (manifest_build(&d.config, d.list.v, d.list.n, &b) == 0) {
			assert(doc_parse(buf_str(&b), b.len, NULL, &again, NULL) == 0);
			assert(again.list.n == d.list.n);
		}
	}
	config_parse((const char *)data, size, &c, NULL);
	return 0;
}
