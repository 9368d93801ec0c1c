/* Who asks; see auth.h. */
#define LOG_MODULE "auth"
#include "node/auth.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "base/str.h"
#include "ext/hash.h"
#include "gen/access.h"
#include "gen/errors.h"
#include "node/node.h"

#define PREFIX	  "strata_"
#define USE_NOTED (60 * NSEC_PER_SEC) /* last_used is as exact as this */

static void hash_of(const char *secret, char hex[65])
{
	uint8_t digest[32];

	hash_data(HASH_SHA256, secret, strlen(secret), digest);
	hex_encode(digest, sizeof(digest), hex);
}

void auth_make_token(char secret[AUTH_TOKEN_MAX], char hash[65])
{
	uint8_t random[32];
	char hex[65];

	rand_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), hex);
	snprintf(secret, AUTH_TOKEN_MAX, PREFIX "%s", hex);
	hash_of(secret, hash);
	mem_wipe(random, sizeof(random));
	mem_wipe(hex, sizeof(hex));
}

static bool expired(const struct object *o)
{
	const char *text = json_str(json_get(o->spec, "expires"));
	nsec_t t;

	return text && (parse_time(text, &t) < 0 || t <= now_real());
}

static void note_use(struct node *n, struct object *o)
{
	const char *text = json_str(json_get(o->status, "last_used"));
	struct json *patch;
	char now[32];
	nsec_t t;

	if (text && parse_time(text, &t) == 0 && now_real() - t < USE_NOTED)
		return;
	patch = json_new_obj();
	json_set(patch, "last_used", json_new_str(format_time(now_real(), now, sizeof(now))));
	inventory_patch_status(n->inventory, o, patch, NULL);
}

static int become(struct api_call *c, struct object *o, struct err **e)
{
	const char *role = json_str(json_get(o->spec, "role"));
	const struct json *projects = json_get(o->spec, "projects");
	int i = role ? gen_enum_find(&api_role_enum, role) : -1;

	snprintf(c->actor, sizeof(c->actor), "%s:%s", o->type, o->name);
	if (expired(o))
		return err_set(e, EACCES, ERR_AUTH_EXPIRED, "the %s '%s' has expired", o->type,
			       o->name);
	if (i < 0)
		return err_set(e, EACCES, ERR_AUTH_REQUIRED, "the %s '%s' has no role", o->type,
			       o->name);
	c->role = (enum gen_role)(i + GEN_ROLE_VIEWER);
	if (json_len(projects))
		c->projects = json_ref((struct json *)projects);
	note_use(c->node, o);
	return 0;
}

/* Every token is compared, each in constant time: how long it takes tells nothing about any. */
static int by_token(struct api_call *c, const char *secret, struct err **e)
{
	struct inventory *inv = c->node->inventory;
	struct object *found = NULL;
	char hash[65];

	hash_of(secret, hash);
	for (struct object *o = inventory_next(inv, "token", NULL); o;
	     o = inventory_next(inv, "token", o)) {
		const char *kept = json_str(json_get(o->spec, "hash"));

		if (kept && strlen(kept) == 64 && mem_equal_secret(kept, hash, 64))
			found = o;
	}
	if (!found)
		return err_set(e, EACCES, ERR_AUTH_REQUIRED, "the token is not known here");
	return become(c, found, e);
}

static int by_certificate(struct api_call *c, const char *fingerprint, struct err **e)
{
	struct inventory *inv = c->node->inventory;

	for (struct object *o = inventory_next(inv, "certificate", NULL); o;
	     o = inventory_next(inv, "certificate", o)) {
		if (streq(json_str(json_get(o->spec, "fingerprint")) ?: "", fingerprint))
			return become(c, o, e);
	}
	return err_set(e, EACCES, ERR_AUTH_REQUIRED,
		       "the certificate with the fingerprint %s is not known here", fingerprint);
}

int auth_identify(struct api_call *c, struct err **e)
{
	const char *header = httpd_header(c->req, "Authorization");
	char fingerprint[65];
	struct ucred peer;

	if (httpd_peer(c->req, &peer) == 0) {
		c->role = GEN_ROLE_ADMIN;
		snprintf(c->actor, sizeof(c->actor), "uid:%u", (unsigned int)peer.uid);
		return 0;
	}
	if (header && strncasecmp(header, "Bearer ", 7) == 0)
		return by_token(c, header + 7 + strspn(header + 7, " "), e);
	if (httpd_client_cert(c->req, fingerprint) == 0)
		return by_certificate(c, fingerprint, e);
	httpd_add_header(c->req, "WWW-Authenticate", "Bearer");
	return err_set(e, EACCES, ERR_AUTH_REQUIRED,
		       "this address wants a token or a client certificate");
}

bool auth_may_see(const struct api_call *c, const char *project)
{
	if (!c->projects || !*project)
		return true;
	for (size_t i = 0; i < json_len(c->projects); i++) {
		if (streq(json_str(json_at(c->projects, i)) ?: "", project))
			return true;
	}
	return false;
}

static int denied(const struct api_call *c, const char *project, struct err **e)
{
	return err_set(e, EACCES, ERR_AUTH_DENIED, "%s has no part in project '%s'", c->actor,
		       project);
}

/* Lists of tasks and events hold what the caller may see when no project is named; objects that are named by id are looked at by
 * api_target(). */
int auth_check_projects(struct api_call *c, struct err **e)
{
	const struct gen_type *q = c->route->query, *rq = c->route->request;
	const char *given = api_query_str(c, "project");

	if (!c->projects)
		return 0;
	if (c->route->role == GEN_ROLE_ADMIN || api_query_on(c, "all_projects"))
		return err_set(e, EACCES, ERR_AUTH_DENIED, "%s is confined to its projects",
			       c->actor);
	if (rq && c->route->method == GEN_POST && gen_field_find(rq, "project", 7)) {
		const char *in = json_str(json_get(c->body, "project"));

		return auth_may_see(c, in ? in : "default") ? 0 : denied(c, in ? in : "default", e);
	}
	if (given)
		return auth_may_see(c, given) ? 0 : denied(c, given, e);
	if (!q || !gen_field_find(q, "project", 7) || c->route->id == ROUTE_TASK_LIST ||
	    c->route->id == ROUTE_EVENT_LIST || auth_may_see(c, c->project))
		return 0;
	/* who has but one need not name it */
	if (json_len(c->projects) != 1)
		return denied(c, c->project, e);
	c->project = json_str(json_at(c->projects, 0));
	return 0;
}
