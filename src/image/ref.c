/* The reference grammar by hand: each rule is one loop. */
#include "image/ref.h"

#include <ctype.h>

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* alnum runs joined by one '.', one or two '_', or any number of '-'. */
static bool component_valid(const char *s, size_t len)
{
	size_t i = 0;

	if (len == 0 || !is_lower_alnum(s[0]) || !is_lower_alnum(s[len - 1]))
		return false;
	while (i < len) {
		size_t sep = 0;

		if (is_lower_alnum(s[i])) {
			i++;
			continue;
		}
		if (s[i] == '.')
			sep = 1;
		else if (s[i] == '_')
			sep = s[i + 1] == '_' ? 2 : 1;
		else if (s[i] == '-')
			sep = strspn(s + i, "-");
		else
			return false;
		i += sep;
		if (i >= len || !is_lower_alnum(s[i]))
			return false;
	}
	return true;
}

static bool path_valid(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");

		if (!component_valid(s, n))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

static bool domain_valid(const char *s)
{
	const char *end = s + strlen(s), *p;

	if (*s == '[') { /* an IPv6 address */
		p = strchr(s, ']');
		if (!p || p == s + 1 ||
		    strspn(s + 1, "0123456789abcdefABCDEF:.") != (size_t)(p - s - 1))
			return false;
		p++;
	} else {
		p = s + strcspn(s, ":");
		if (p == s)
			return false;
		for (const char *q = s; q < p; q++) {
			bool edge = q == s || q + 1 == p || q[-1] == '.' || q[1] == '.';

			if (*q == '.' ? edge && (q == s || q + 1 == p || q[-1] == '.')
				      : !isalnum((unsigned char)*q) && (*q != '-' || edge))
				return false;
		}
	}
	if (p == end)
		return true;
	return *p == ':' && p[1] && strlen(p + 1) <= 5 &&
	       strspn(p + 1, "0123456789") == strlen(p + 1);
}

static bool tag_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 128 || (!isalnum((unsigned char)s[0]) && s[0] != '_'))
		return false;
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return false;
	}
	return true;
}

int ref_parse(const char *s, struct image_ref *ret, struct err **e)
{
	struct image_ref r = { 0 };
	char work[REF_MAX], *at, *colon, *slash, *name = work;
	size_t n = strlen(s);
	bool library;

	if (n == 0)
		return err_set(e, EINVAL, "image.reference", "an image reference is empty");
	if (n >= sizeof(work))
		return err_set(e, EINVAL, "image.reference",
			       "image reference longer than %d characters", REF_MAX - 1);
	memcpy(work, s, n + 1);
	at = strchr(work, '@');
	if (at) {
		*at = '\0';
		if (digest_parse(at + 1, &r.digest) < 0)
			return err_set(
				e, EINVAL, "image.reference",
				"image reference '%s': the part after '@' is no sha256 or sha512 digest",
				s);
	}
	slash = strrchr(work, '/');
	colon = strrchr(slash ? slash : work, ':');
	if (colon) {
		*colon = '\0';
		if (!tag_valid(colon + 1))
			return err_set(e, EINVAL, "image.reference",
				       "image reference '%s': '%s' is no valid tag", s, colon + 1);
		strcpy(r.tag, colon + 1);
	}
	slash = strchr(work, '/');
	if (slash) {
		*slash = '\0';
		if (strpbrk(work, ".:[") || streq(work, "localhost")) {
			if (strlen(work) >= sizeof(r.domain) || !domain_valid(work))
				return err_set(e, EINVAL, "image.reference",
					       "image reference '%s': '%s' is no valid host", s,
					       work);
			strcpy(r.domain, work);
			name = slash + 1;
		} else {
			*slash = '/';
		}
	}
	if (!r.domain[0] || streq(r.domain, "index.docker.io"))
		strncpy(r.domain, "docker.io", sizeof(r.domain)); /* and zeros behind it */
	library = streq(r.domain, "docker.io") && !strchr(name, '/');
	if (strlen(name) + (library ? strlen("library/") : 0) >= sizeof(r.path))
		return err_set(e, EINVAL, "image.reference",
			       "image reference '%s': the name is too long", s);
	if (!path_valid(name))
		return err_set(
			e, EINVAL, "image.reference",
			"image reference '%s': '%s' is no valid name (lower-case letters, digits, and . _ - "
			"between them)",
			s, name);
	if (strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64)
		return err_set(e, EINVAL, "image.reference",
			       "image reference '%s' looks like an image id", s);
	if (library)
		strcpy(r.path, "library/");
	strcat(r.path, name);
	if (!r.tag[0] && digest_empty(&r.digest))
		strcpy(r.tag, "latest");
	/* what was left out counts too: the full form must be readable again */
	if (strlen(r.domain) + strlen(r.path) + strlen(r.tag) + strlen(r.digest.s) +
		    strlen("/:@") >=
	    REF_MAX)
		return err_set(e, EINVAL, "image.reference",
			       "image reference '%s' in full is longer than %d characters", s,
			       REF_MAX - 1);
	*ret = r;
	return 0;
}

/* Into REF_MAX bytes, which what ref_parse() took fits in. */
static char *join(char *buf, const char *const *parts)
{
	size_t len = 0;

	for (; *parts; parts++) {
		size_t n = MIN(strlen(*parts), REF_MAX - 1 - len);

		memcpy(buf + len, *parts, n);
		len += n;
	}
	buf[len] = '\0';
	return buf;
}

char *ref_format(const struct image_ref *r, char *buf)
{
	const char *const parts[] = { r->domain,   "/",
				      r->path,	   r->tag[0] ? ":" : "",
				      r->tag,	   digest_empty(&r->digest) ? "" : "@",
				      r->digest.s, NULL };

	return join(buf, parts);
}

char *ref_name(const struct image_ref *r, char *buf)
{
	const char *const parts[] = { r->domain, "/", r->path, ":", r->tag, NULL };

	return r->tag[0] ? join(buf, parts) : ref_format(r, buf);
}

char *ref_familiar(const struct image_ref *r, char *buf)
{
	bool hub = streq(r->domain, "docker.io");
	const char *const parts[] = { hub ? "" : r->domain,
				      hub ? "" : "/",
				      hub && str_starts(r->path, "library/")
					      ? r->path + strlen("library/")
					      : r->path,
				      r->tag[0] ? ":" : "",
				      r->tag,
				      NULL };

	return join(buf, parts);
}

const char *ref_selector(const struct image_ref *r)
{
	return digest_empty(&r->digest) ? r->tag : r->digest.s;
}

bool ref_domain_is_loopback(const char *domain)
{
	char host[256];
	size_t n = *domain == '[' ? strcspn(domain, "]") + 1 : strcspn(domain, ":");

	snprintf(host, sizeof(host), "%.*s", (int)MIN(n, sizeof(host) - 1), domain);
	if (streq(host, "localhost") || streq(host, "[::1]"))
		return true;
	/* 127.a.b.c and nothing else, lest 127.0.0.1.example.com pass */
	return str_starts(host, "127.") && strspn(host, "0123456789.") == strlen(host);
}
