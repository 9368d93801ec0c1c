/* Finding the route of a request: a walk down a tree of path parts, literal parts first. */
#include "gen/route.h"

#include "base/str.h"
#include "gen/errors.h"
#include "gen/object_int.h"
#include "gen/routes.h"

extern const struct gen_route_node gen_route_nodes[];

static const char *const method_names[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };

int gen_method_parse(const char *name, enum gen_method *ret)
{
	for (unsigned int i = 0; i < GEN_METHODS; i++) {
		if (streq(name, method_names[i])) {
			*ret = (enum gen_method)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *gen_method_name(enum gen_method m)
{
	return method_names[m];
}

const char *gen_role_name(enum gen_role r)
{
	static const char *const names[] = { "none", "viewer", "operator", "admin" };

	return names[r];
}

struct walk {
	enum gen_method method;
	unsigned int allowed;
	const struct gen_route *route;
	struct {
		const char *s;
		size_t n;
	} params[GEN_PARAMS_MAX];
};

static const struct gen_route_node *literal_child(const struct gen_route_node *node, const char *s,
						  size_t n)
{
	for (unsigned int i = 0; i < node->n; i++) {
		const struct gen_route_node *child = &gen_route_nodes[node->first + i];

		if (strncmp(child->literal, s, n) == 0 && child->literal[n] == '\0')
			return child;
	}
	return NULL;
}

static bool walk(struct walk *w, const struct gen_route_node *node, const char *path,
		 unsigned int n_params)
{
	const struct gen_route_node *child;
	size_t n;

	if (*path == '/')
		path++;
	if (!*path) {
		for (unsigned int m = 0; m < GEN_METHODS; m++)
			w->allowed |= node->routes[m] ? 1U << m : 0;
		if (w->method < GEN_METHODS && node->routes[w->method])
			w->route = &gen_routes[node->routes[w->method] - 1];
		return w->route != NULL;
	}
	n = strcspn(path, "/");
	child = literal_child(node, path, n);
	if (child && walk(w, child, path + n, n_params))
		return true;
	if (!node->param || n == 0 || n_params == GEN_PARAMS_MAX)
		return false;
	w->params[n_params].s = path;
	w->params[n_params].n = n;
	return walk(w, &gen_route_nodes[node->param], path + n, n_params + 1);
}

static int read_param(const struct gen_route *route, unsigned int i, const char *s, size_t n,
		      char *out, struct err **e)
{
	const struct gen_format *f = route->params[i].format;
	char quoted[GEN_QUOTED];
	size_t len = 0;

	for (size_t k = 0; k < n; k++) {
		uint8_t byte = (uint8_t)s[k];

		if (len + 1 >= GEN_PARAM_LEN)
			return err_set(e, EINVAL, ERR_SCHEMA_LENGTH, "%s: is too long",
				       route->params[i].name);
		if (s[k] == '%') {
			char digits[3] = { s[k + 1], k + 2 < n ? s[k + 2] : 0, 0 };

			if (hex_decode(digits, &byte, 1) < 0 || byte == 0)
				return err_set(e, EINVAL, ERR_SCHEMA_FORMAT,
					       "%s: is not percent-encoded text",
					       route->params[i].name);
			k += 2;
		}
		out[len++] = (char)byte;
	}
	out[len] = '\0';
	if (!utf8_valid(out) || len > f->max_len || !gen_format_fits(f, out))
		return err_set(e, EINVAL, ERR_SCHEMA_FORMAT, "%s: %s is not %s",
			       route->params[i].name, gen_quote(out, quoted), f->help);
	return 0;
}

int gen_route_find(enum gen_method method, const char *path, struct gen_route_match *ret,
		   struct err **e)
{
	struct walk w = { .method = method };
	char quoted[GEN_QUOTED];

	ret->route = NULL;
	if (*path != '/' || !walk(&w, gen_route_nodes, path, 0)) {
		ret->allowed = w.allowed;
		if (w.allowed)
			return err_set(e, EOPNOTSUPP, ERR_REQUEST_METHOD, "%s does not know %s",
				       gen_quote(path, quoted),
				       method < GEN_METHODS ? gen_method_name(method)
							    : "this method");
		return err_set(e, ENOENT, ERR_REQUEST_NO_PATH, "no path %s in this API",
			       gen_quote(path, quoted));
	}
	ret->allowed = w.allowed;
	for (unsigned int i = 0; i < w.route->n_params; i++) {
		int r = read_param(w.route, i, w.params[i].s, w.params[i].n, ret->params[i], e);

		if (r < 0)
			return r;
	}
	ret->route = w.route;
	return 0;
}
