/* What goes into the seed; iso.c makes the file system. */
#include "image/seed.h"

#include "base/str.h"

/* A YAML scalar: JSON strings are YAML strings. */
static void scalar(struct buf *b, const char *s)
{
	buf_add_json(b, s);
	buf_addc(b, '\n');
}

int seed_build(const struct seed *s, struct buf *iso, struct err **e)
{
	_cleanup_(buf_done) struct buf user = { 0 }, meta = { 0 };
	struct iso_file files[4];
	size_t n = 0;
	int r;

	if (!s->instance_id || !*s->instance_id)
		return err_set(e, EINVAL, "image.seed", "a seed needs an instance id");
	if (s->user_data && (s->ssh_keys || s->password_hash))
		return err_set(e, EINVAL, "image.seed",
			       "keys and password belong into the user data that were given");
	buf_adds(&meta, "instance-id: ");
	scalar(&meta, s->instance_id);
	if (s->hostname) {
		buf_adds(&meta, "local-hostname: ");
		scalar(&meta, s->hostname);
	}
	if (s->user_data) {
		buf_adds(&user, s->user_data);
	} else {
		buf_adds(&user, "#cloud-config\n");
		if (s->password_hash) {
			buf_adds(&user,
				 "chpasswd:\n  expire: false\nssh_pwauth: false\npassword: ");
			scalar(&user, s->password_hash);
		}
		if (s->ssh_keys && *s->ssh_keys)
			buf_adds(&user, "ssh_authorized_keys:\n");
		for (const char *const *k = s->ssh_keys; k && *k; k++) {
			buf_adds(&user, "  - ");
			scalar(&user, *k);
		}
	}
	if (buf_error(&user) || buf_error(&meta))
		return err_sys(e, ENOMEM, "seed");
	files[n++] = (struct iso_file){ "meta-data", meta.s, meta.len };
	if (s->network_config)
		files[n++] = (struct iso_file){ "network-config", s->network_config,
						strlen(s->network_config) };
	files[n++] = (struct iso_file){ "user-data", user.s, user.len };
	if (s->vendor_data)
		files[n++] =
			(struct iso_file){ "vendor-data", s->vendor_data, strlen(s->vendor_data) };
	r = iso_build("cidata", files, n, iso);
	return r < 0 ? err_sys(e, -r, "seed") : 0;
}
