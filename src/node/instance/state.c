/* What an instance shows: its state, events, and whoever waits for them. */
#define LOG_MODULE "instance"
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"
#include "base/str.h"
#include "node/instance/instance.h"

#define S(x) API_INSTANCE_STATE_##x

/* Every state may end in failed or, by a cleanup, in stopped. */
static const uint32_t moves[] = {
	[S(CREATING)] = TO(S(STOPPED)) | TO(S(STARTING)) | TO(S(FAILED)),
	[S(STOPPED)] = TO(S(STARTING)) | TO(S(STOPPED)) | TO(S(FAILED)),
	[S(STARTING)] = TO(S(RUNNING)) | TO(S(STOPPED)) | TO(S(FAILED)),
	[S(RUNNING)] = TO(S(PAUSED)) | TO(S(STOPPING)) | TO(S(STOPPED)) | TO(S(SUSPENDED)) |
		       TO(S(FAILED)),
	[S(PAUSED)] = TO(S(RUNNING)) | TO(S(STOPPING)) | TO(S(STOPPED)) | TO(S(SUSPENDED)) |
		      TO(S(FAILED)),
	[S(STOPPING)] = TO(S(STOPPED)) | TO(S(RUNNING)) | TO(S(STOPPING)) | TO(S(FAILED)),
	[S(SUSPENDED)] = TO(S(STARTING)) | TO(S(STOPPED)) | TO(S(FAILED)),
	[S(FAILED)] = TO(S(STARTING)) | TO(S(STOPPED)) | TO(S(FAILED)),
};

bool instance_runs(const struct instance *i)
{
	return i->state == S(RUNNING) || i->state == S(PAUSED) || i->state == S(STOPPING);
}

void instance_wake(struct instance *i)
{
	struct instance_waiter *w, *tmp;

	list_for_each_entry_safe(w, tmp, &i->waiters, node)
		w->fn(w, i);
}

void instance_wait(struct instance *i, struct instance_waiter *w)
{
	list_add_tail(&i->waiters, &w->node);
}

void instance_unwait(struct instance_waiter *w)
{
	if (w->node.next)
		list_del(&w->node);
	w->node = (struct list){ 0 };
}

void instance_event(struct instance *i, const char *what, struct json *data)
{
	char type[64];

	snprintf(type, sizeof(type), "instance.%s", what);
	events_emit(i->all->node->events, type, i->object, NULL, data);
}

void instance_move(struct instance *i, enum api_instance_state to, const char *message)
{
	struct inventory *inv = i->all->node->inventory;
	static const struct sm sm = SM("instance", moves, NULL);
	struct json *p = json_new_obj();
	char t[32];

	if (!sm_may(&sm, i->state, to))
		log_err("a move that should not be", "instance", i->object->id, "from",
			api_instance_state_str(i->state), "to", api_instance_state_str(to));
	i->state = to;
	json_set(p, "state", json_new_str(api_instance_state_str(to)));
	json_set(p, "message", message ? json_new_str(message) : json_new_null());
	if (to == S(RUNNING) && i->engine) {
		json_set(p, "pid", json_new_int(i->engine->info.pid));
		json_set(p, "started",
			 json_new_str(
				 format_time(i->engine->info.started ?: now_real(), t, sizeof(t))));
		json_set(p, "exit_code", json_new_null());
		json_set(p, "finished", json_new_null());
		json_set(p, "oom_killed", json_new_bool(false));
	} else if (to == S(STOPPED) || to == S(FAILED)) {
		json_set(p, "pid", json_new_null());
		json_set(p, "nics", json_new_null());
		json_set(p, "ports", json_new_null());
	}
	if (!i->object->deleted)
		inventory_patch_status(inv, i->object, p, NULL);
	else
		json_free(p);
	instance_wake(i);
}

void instance_show_nics(struct instance *i)
{
	struct networks *ns = i->all->node->networks;
	struct json *p = json_new_obj(), *nics = json_new_arr(), *ports = json_new_arr();

	for (size_t k = 0; k < i->spec->nics.n; k++) {
		struct json *one = networks_nic_show(ns, i->object->id, i->spec->nics.v[k].id);

		if (one)
			json_push(nics, one);
	}
	for (size_t k = 0; k < i->spec->ports.n; k++)
		json_push(ports, gen_to_json(&api_instance_port_type, &i->spec->ports.v[k], 0));
	json_set(p, "nics", nics);
	json_set(p, "ports", ports);
	inventory_patch_status(i->all->node->inventory, i->object, p, NULL);
}
