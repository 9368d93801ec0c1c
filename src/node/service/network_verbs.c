/* Making, changing and removing networks as tasks.  Each is one step that ends at once: networks_create() and the like leave
 * nothing half-made when they fail, and what a crash leaves on the host goes with the next networks_apply(). */
#include <errno.h>
#include "node/service/network.h"

static void end(struct task *t, int r, struct err *e)
{
	if (r < 0)
		task_fail(t, e);
	else
		task_next(t);
}

static void set_result(struct task *t, const struct object *o)
{
	json_free(t->result);
	t->result = json_new_obj();
	json_set(t->result, "id", json_new_str(o->id));
	json_set(t->result, "name", json_new_str(o->name));
}

static void create_network(struct task *t)
{
	_cleanup_(api_network_done) struct api_network n = { 0 };
	struct node *node = task_daemon(t);
	struct object *o = NULL;
	struct err *e = NULL;
	int r = api_network_parse(&n, t->args, GEN_TRUSTED, &e);

	if (r == 0)
		r = networks_create(node->networks, &n, &o, &e);
	if (r == 0)
		set_result(t, o);
	end(t, r, e);
}

static void create_portgroup(struct task *t)
{
	_cleanup_(api_portgroup_done) struct api_portgroup p = { 0 };
	struct node *node = task_daemon(t);
	struct object *o = NULL;
	struct err *e = NULL;
	int r = api_portgroup_parse(&p, t->args, GEN_TRUSTED, &e);

	if (r == 0)
		r = portgroups_create(node->networks, &p, &o, &e);
	if (r == 0)
		set_result(t, o);
	end(t, r, e);
}

static void remove_network(struct task *t)
{
	struct node *node = task_daemon(t);
	struct object *o = inventory_get(node->inventory, t->target);
	struct err *e = NULL;
	int r = o ? networks_remove(node->networks, o, &e) : 0;

	end(t, r, e);
}

static void remove_portgroup(struct task *t)
{
	struct node *node = task_daemon(t);
	struct object *o = inventory_get(node->inventory, t->target);
	struct err *e = NULL;
	int r = o ? portgroups_remove(node->networks, o, &e) : 0;

	end(t, r, e);
}

static void change_run(struct task *t)
{
	struct node *node = task_daemon(t);
	struct object *o = inventory_get(node->inventory, t->target);
	struct err *e = NULL;
	int r = o ? networks_changed(node->networks, o, &e) : 0;

	end(t, r, e);
}

static void change_undo(struct task *t)
{
	struct node *node = task_daemon(t);
	struct object *o = inventory_get(node->inventory, t->target);
	struct object_change c = { .spec = json_get(t->args, "before") };

	if (o && c.spec && inventory_change(node->inventory, o, &c, NULL) == 0)
		networks_changed(node->networks, o, NULL);
	task_next(t);
}

#define VERB(id, text, run, undo, fwd)                                        \
	static const struct task_step id##_steps[] = { { text, run, undo } }; \
	static const struct task_verb id##_verb = {                           \
		.name = text,                                                 \
		.steps = id##_steps,                                          \
		.n_steps = 1,                                                 \
		.forward = fwd,                                               \
	}
VERB(network_create, "network.create", create_network, NULL, false);
VERB(network_remove, "network.remove", remove_network, NULL, true);
VERB(network_change, "network.change", change_run, change_undo, false);
VERB(portgroup_create, "portgroup.create", create_portgroup, NULL, false);
VERB(portgroup_remove, "portgroup.remove", remove_portgroup, NULL, true);

const struct task_verb *const network_verbs[] = {
	&network_create_verb,	&network_remove_verb,	&network_change_verb,
	&portgroup_create_verb, &portgroup_remove_verb, NULL,
};
