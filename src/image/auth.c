/* See auth.h. */
#include "image/auth.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/mman.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "ext/json.h"
#include "image/fsutil.h"

void credentials_done(struct credentials *c)
{
	if (c->password)
		mem_wipe(c->password, strlen(c->password));
	if (c->identity_token)
		mem_wipe(c->identity_token, strlen(c->identity_token));
	free(c->user);
	free(c->password);
	free(c->identity_token);
	*c = (struct credentials){ 0 };
}

static int base64_decode(const char *s, struct buf *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t acc = 0;
	int bits = 0;

	for (; *s && *s != '='; s++) {
		const char *p = strchr(digits, *s);

		if (!p)
			return -EINVAL;
		acc = acc << 6 | (uint32_t)(p - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			if (buf_addc(out, (char)(acc >> bits)) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* "https://index.docker.io/v1/" and the like are what docker login writes for its own hub. */
static bool key_matches(const char *key, const char *domain)
{
	size_t n;

	if (str_starts(key, "https://"))
		key += 8;
	else if (str_starts(key, "http://"))
		key += 7;
	n = strcspn(key, "/");
	if (streq(domain, "docker.io") &&
	    ((n == 15 && strncmp(key, "index.docker.io", n) == 0) ||
	     (n == 20 && strncmp(key, "registry-1.docker.io", n) == 0)))
		return true;
	return n == strlen(domain) && strncmp(key, domain, n) == 0;
}

static int read_entry(const struct json *entry, struct credentials *c)
{
	const char *auth = json_str(json_get(entry, "auth")),
		   *token = json_str(json_get(entry, "identitytoken"));
	_cleanup_(buf_done) struct buf text = { 0 };
	char *colon;

	if (token && *token) {
		c->identity_token = strdup(token);
		return c->identity_token ? 0 : -ENOMEM;
	}
	if (!auth || !*auth)
		return 0;
	if (base64_decode(auth, &text) < 0 || !(colon = strchr(buf_str(&text), ':')))
		return -EINVAL;
	*colon = '\0';
	c->user = strdup(buf_str(&text));
	c->password = strdup(colon + 1);
	mem_wipe(text.s, text.len);
	return c->user && c->password ? 0 : -ENOMEM;
}

static int feed(const char *text)
{
	int fd = memfd_create("ask", MFD_CLOEXEC);

	if (fd >= 0 && (write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0))
		fd = safe_close(fd);
	return fd;
}

/* docker-credential-NAME: "get", the server on stdin, JSON on stdout; the user "<token>" means an identity token.
 * Protocol: github.com/docker/docker-credential-helpers.  1: it has some; 0: none for this server. */
static int ask_helper(const char *helper, const char *domain, struct credentials *c, struct err **e)
{
	char program[128];
	const char *const argv[] = { program, "get", NULL };
	_cleanup_(closep) int in = -1, out = memfd_create("credentials", MFD_CLOEXEC);
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(err_freep) struct err *why = NULL;
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *user, *secret;
	int r;

	if (strlen(helper) > 64 || !*helper || *helper == '-' ||
	    strspn(helper, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
		    strlen(helper))
		return err_set(e, EINVAL, "registry.credentials", "'%s' names no credential helper",
			       helper);
	snprintf(program, sizeof(program), "docker-credential-%s", helper);
	/* docker's own hub is known to helpers by the address of its first version */
	in = feed(streq(domain, "docker.io") ? "https://index.docker.io/v1/" : domain);
	if (in < 0 || out < 0)
		return err_sys(e, errno, "ask '%s'", program);
	r = run_program_in(argv, NULL, in, out, NULL, &why);
	if (lseek(out, 0, SEEK_SET) < 0 || fd_read_all(out, MIB, &text, NULL) < 0)
		return err_sys(e, EIO, "ask '%s'", program);
	if (r < 0 && strstr(buf_str(&text), "credentials not found"))
		return 0;
	if (r < 0) { /* it says why on stdout */
		const char *said = text.len ? buf_str(&text) : err_msg(why);

		return err_set(e, EACCES, "registry.credentials", "'%s' gives no credentials: %.*s",
			       program, (int)strcspn(said, "\n"), said);
	}
	r = json_parse(buf_str(&text), text.len, NULL, &v, &why);
	if (text.s)
		mem_wipe(text.s, text.len);
	user = json_str(json_get(v, "Username"));
	secret = json_str(json_get(v, "Secret"));
	if (r < 0 || !user || !secret)
		return err_set(e, EBADMSG, "registry.credentials",
			       "what '%s' says cannot be understood", program);
	if (streq(user, "<token>")) {
		c->identity_token = strdup(secret);
	} else {
		c->user = strdup(user);
		c->password = strdup(secret);
	}
	if (!c->identity_token && (!c->user || !c->password))
		return err_sys(e, ENOMEM, "credentials");
	return 1;
}

static int read_file(const char *file, const char *domain, struct credentials *c, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	const char *helper;
	int r = json_parse_file(file, NULL, &v, e);

	if (r < 0)
		return r;
	helper = json_str(json_walk(v, "credHelpers", domain, (char *)NULL));
	if (!helper)
		helper = json_str(json_get(v, "credsStore"));
	r = helper ? ask_helper(helper, domain, c, e) : 0;
	if (r != 0)
		return r < 0 ? err_wrap(e, r, "'%s'", file) : 0;
	for (struct json_iter it = json_iter(json_get(v, "auths")); json_next(&it);) {
		if (!key_matches(it.key, domain))
			continue;
		r = read_entry(it.value, c);
		if (r < 0)
			return err_set(e, -r, "registry.credentials",
				       "'%s': the entry for '%s' cannot be read", file, it.key);
	}
	return 0;
}

int credentials_find(const char *file, const char *domain, struct credentials *ret, struct err **e)
{
	const char *docker = getenv("DOCKER_CONFIG"), *home = getenv("HOME"),
		   *run = getenv("XDG_RUNTIME_DIR");
	char paths[4][4096] = { "", "", "", "" };

	*ret = (struct credentials){ 0 };
	if (file)
		return read_file(file, domain, ret, e);
	if (docker)
		snprintf(paths[0], sizeof(paths[0]), "%s/config.json", docker);
	else if (home)
		snprintf(paths[0], sizeof(paths[0]), "%s/.docker/config.json", home);
	if (run)
		snprintf(paths[1], sizeof(paths[1]), "%s/containers/auth.json", run);
	if (home)
		snprintf(paths[2], sizeof(paths[2]), "%s/.config/containers/auth.json", home);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		int r;

		if (!paths[i][0] || access(paths[i], F_OK) < 0)
			continue;
		r = read_file(paths[i], domain, ret, e);
		if (r < 0 || ret->user || ret->identity_token)
			return r;
	}
	return 0;
}

/* key="value" or key=token, behind the scheme.  RFC 9110, 11.6.1. */
static const char *parameter(const char *p, char *key, size_t klen, char *value, size_t vlen)
{
	size_t k = 0, v = 0;

	p += strspn(p, " \t,");
	while (*p && !strchr("= \t,", *p)) {
		if (k + 1 < klen)
			key[k++] = *p;
		p++;
	}
	key[k] = value[0] = '\0';
	if (k == 0 || *p != '=')
		return NULL;
	p++;
	if (*p == '"') {
		for (p++; *p && *p != '"'; p++) {
			if (*p == '\\' && p[1])
				p++;
			if (v + 1 < vlen)
				value[v++] = *p;
		}
		p += *p == '"';
	} else {
		while (*p && !strchr(" \t,", *p)) {
			if (v + 1 < vlen)
				value[v++] = *p;
			p++;
		}
	}
	value[v] = '\0';
	return p;
}

void challenge_parse(const char *header, struct challenge *ret)
{
	char key[32], value[1024];

	*ret = (struct challenge){ 0 };
	if (strncasecmp(header, "Basic", 5) == 0) {
		ret->kind = CHALLENGE_BASIC;
		return;
	}
	if (strncasecmp(header, "Bearer ", 7) != 0)
		return;
	ret->kind = CHALLENGE_BEARER;
	for (const char *p = header + 7; p && *p;) {
		p = parameter(p, key, sizeof(key), value, sizeof(value));
		if (!p)
			break;
		if (strcasecmp(key, "realm") == 0)
			snprintf(ret->realm, sizeof(ret->realm), "%.511s", value);
		else if (strcasecmp(key, "service") == 0)
			snprintf(ret->service, sizeof(ret->service), "%.255s", value);
		else if (strcasecmp(key, "scope") == 0)
			snprintf(ret->scope, sizeof(ret->scope), "%s", value);
	}
	if (!ret->realm[0])
		ret->kind = CHALLENGE_NONE;
}
