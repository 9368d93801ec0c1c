/* The documents of an image: index, manifest, config.
 *          Spec: OCI image-spec 1.1 (image-index.md, manifest.md, config.md), Docker image manifest v2 schema 2
 * Trust: all text comes from registries and archives.  Sizes, counts and nesting are bounded; a document that
 * is an index and a manifest at once is refused, whatever its media type says (CVE-2021-41190).
 * Thread: plain values, no shared state. */
#ifndef IMAGE_MANIFEST_H
#define IMAGE_MANIFEST_H

#include "base/buf.h"
#include "base/vec.h"
#include "ext/compress.h"
#include "ext/json.h"
#include "image/digest.h"

#define MANIFEST_MAX	(4 * MIB) /* bytes of one document */
#define IMAGE_LAYER_MAX 500	  /* overlayfs itself takes 500 */

#define MT_OCI_INDEX	   "application/vnd.oci.image.index.v1+json"
#define MT_OCI_MANIFEST	   "application/vnd.oci.image.manifest.v1+json"
#define MT_OCI_CONFIG	   "application/vnd.oci.image.config.v1+json"
#define MT_OCI_LAYER	   "application/vnd.oci.image.layer.v1.tar"
#define MT_OCI_LAYER_GZ	   "application/vnd.oci.image.layer.v1.tar+gzip"
#define MT_OCI_LAYER_ZSTD  "application/vnd.oci.image.layer.v1.tar+zstd"
#define MT_DOCKER_INDEX	   "application/vnd.docker.distribution.manifest.list.v2+json"
#define MT_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MT_DOCKER_CONFIG   "application/vnd.docker.container.image.v1+json"
#define MT_DOCKER_LAYER	   "application/vnd.docker.image.rootfs.diff.tar"
#define MT_DOCKER_LAYER_GZ "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define MT_DOCKER_FOREIGN  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

#define ANNOTATION_REF	     "org.opencontainers.image.ref.name"
#define ANNOTATION_FULL_NAME "io.containerd.image.name"

struct image_platform {
	char os[32], arch[32], variant[32]; /* "linux", "amd64", "" */
};
/* Of this machine. */
void platform_host(struct image_platform *ret);
/* "linux/arm64/v8"; -EINVAL. */
int platform_parse(const char *s, struct image_platform *ret, struct err **e);
/* An empty variant of `want` accepts any. */
bool platform_matches(const struct image_platform *want, const struct image_platform *have);

struct image_desc {
	char media_type[128];
	struct digest digest;
	uint64_t size;
	struct image_platform platform; /* os "" : not said */
	char ref_name[512];		/* ANNOTATION_FULL_NAME, else ANNOTATION_REF, else "" */
};
int desc_parse(const struct json_in *in, struct image_desc *ret, struct err **e);
struct json *desc_build(const struct image_desc *d); /* NULL: out of memory */

enum doc_kind { DOC_INDEX, DOC_MANIFEST };
bool media_type_is_index(const char *mt);
bool media_type_is_manifest(const char *mt);
/* -ENOTSUP: not a file-system layer that we can unpack. */
int media_type_layer(const char *mt, enum compression *ret);

struct image_doc {
	enum doc_kind kind;
	char media_type[128];
	struct image_desc config;    /* DOC_MANIFEST */
	VEC(struct image_desc) list; /* layers from the lowest up, or the manifests of an index */
};
/* media_type: what the transport or the descriptor says, or NULL. */
int doc_parse(const char *text, size_t len, const char *media_type, struct image_doc *ret,
	      struct err **e);
void doc_done(struct image_doc *d);
/* The manifest of an index that fits; -ENOENT names what there is. */
int doc_pick(const struct image_doc *index, const struct image_platform *want,
	     struct image_desc *ret, struct err **e);
/* An OCI manifest; text is canonical, so equal images get equal digests. */
int manifest_build(const struct image_desc *config, const struct image_desc *layers, size_t n,
		   struct buf *ret);

struct image_config {
	struct image_platform platform;
	char *created, *user, *working_dir, *stop_signal; /* NULL: not set */
	char **env, **entrypoint, **cmd;		  /* NULL: not set */
	char **ports, **volumes;			  /* keys, NULL: none */
	struct json *labels;				  /* object or NULL */
	struct json *healthcheck;			  /* as Docker writes it, or NULL */
	VEC(struct digest) diff_ids;
	struct json *raw; /* the whole document, for those who change and rewrite it */
};
int config_parse(const char *text, size_t len, struct image_config *ret, struct err **e);
void config_done(struct image_config *c);
/* Make the text of a fresh config with these diff_ids; c's other fields may be empty.  history: one entry a layer. */
int config_build(const struct image_config *c, const char *history, struct buf *ret);

/* ChainID of the first n layers (config.md, "Layer ChainID"). */
void chain_id(const struct digest *diff_ids, size_t n, struct digest *ret);

#endif
