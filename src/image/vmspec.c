/* See vmspec.h. */
#include "image/vmspec.h"

#include <fcntl.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "image/fsutil.h"

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "SIGHUP", 1 },   { "SIGINT", 2 },    { "SIGQUIT", 3 },
	{ "SIGKILL", 9 },  { "SIGUSR1", 10 },  { "SIGUSR2", 12 },
	{ "SIGTERM", 15 }, { "SIGWINCH", 28 }, { "SIGRTMIN+3", 37 },
};

static int64_t signal_number(const char *s)
{
	uint64_t n;

	if (!s)
		return 15;
	if (parse_u64(s, 64, &n) == 0 && n > 0)
		return (int64_t)n;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		if (streq(s, signals[i].name) || streq(s, signals[i].name + 3))
			return signals[i].number;
	}
	return 15;
}

static int add_all(struct json *arr, char *const *v)
{
	int r = 0;

	for (; r == 0 && v && *v; v++)
		r = json_push(arr, json_new_str(*v));
	return r;
}

static struct json *process_config(const struct image_config *c, const struct vm_request *q)
{
	struct json *o = json_new_obj(), *args = json_new_arr(), *env = json_new_arr();
	int r = add_all(args, c->entrypoint);

	r = add_all(args, q->args ? q->args : c->cmd) ?: r;
	r = add_all(env, c->env) ?: r;
	r = add_all(env, q->env) ?: r;
	r = json_set(o, "args", args) ?: r;
	r = json_set(o, "env", env) ?: r;
	r = json_set(o, "cwd",
		     json_new_str(q->cwd	   ? q->cwd
				  : c->working_dir ? c->working_dir
						   : "/"))
		    ?: r;
	r = json_set(o, "user", json_new_str(q->user ? q->user : c->user ? c->user : "")) ?: r;
	r = json_set(o, "tty", json_new_bool(q->tty)) ?: r;
	r = json_set(o, "attach", json_new_bool(q->attach)) ?: r;
	r = json_set(o, "stop_signal", json_new_int(signal_number(c->stop_signal))) ?: r;
	if (r < 0) {
		json_free(o);
		return NULL;
	}
	return o;
}

static int network_config(char *const *list, struct json *ret, struct err **e)
{
	for (; list && *list; list++) {
		_cleanup_(strv_freep) char **parts = strv_split(*list, ",");
		struct json *o = json_new_obj(), *addresses = json_new_arr(),
			    *gateways = json_new_arr();
		int r = parts ? 0 : -ENOMEM;

		for (size_t i = 1; r == 0 && parts[0] && parts[i]; i++)
			r = json_push(strchr(parts[i], '/') ? addresses : gateways,
				      json_new_str(parts[i]));
		if (r == 0 && !parts[0])
			r = err_set(e, EINVAL, "image.network", "'%s' is no interface", *list);
		r = json_set(o, "mac", json_new_str(r < 0 ? "" : parts[0])) ?: r;
		r = json_set(o, "addresses", addresses) ?: r;
		r = json_set(o, "gateways", gateways) ?: r;
		r = json_push(ret, o) ?: r;
		if (r < 0)
			return r;
	}
	return 0;
}

int vm_config(const struct image_parts *p, const struct image_disk *disks, size_t n,
	      const struct vm_request *q, struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	struct json *layers = json_new_arr(), *network = json_new_arr();
	int r = 0;

	if (!q->args && !p->config.entrypoint && !p->config.cmd) {
		json_free(layers);
		json_free(network);
		return err_set(e, EINVAL, "image.no_command",
			       "the image names no command: give one");
	}
	for (size_t i = 0; i < n; i++)
		r = json_push(layers, json_new_str(disks[i].serial)) ?: r;
	r = json_set(o, "version", json_new_int(1)) ?: r;
	r = json_set(o, "layers", layers) ?: r;
	if (q->size)
		r = json_set(o, "upper", json_new_str("upper")) ?: r;
	if (q->hostname)
		r = json_set(o, "hostname", json_new_str(q->hostname)) ?: r;
	r = json_set(o, "stay", json_new_bool(q->stay)) ?: r;
	r = json_set(o, "process", process_config(&p->config, q)) ?: r;
	r = network_config(q->network, network, e) ?: r;
	r = json_set(o, "network", network) ?: r;
	if (r < 0)
		return err_wrap(e, r, "guest config");
	*ret = TAKE(o);
	return 0;
}

static struct json *disk_json(const char *path, const char *serial, bool readonly)
{
	struct json *o = json_new_obj();

	if (json_set(o, "path", json_new_str(path)) < 0 ||
	    json_set(o, "serial", json_new_str(serial)) < 0 ||
	    json_set(o, "readonly", json_new_bool(readonly)) < 0) {
		json_free(o);
		return NULL;
	}
	return o;
}

static int write_json(int dir, const char *name, const struct json *v, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };

	if (json_print(v, JSON_PRETTY, &text) < 0)
		return err_sys(e, ENOMEM, "write '%s'", name);
	return file_write_atomic(dir, name, buf_str(&text), text.len, 0600, e);
}

int vm_prepare(struct image_store *s, const struct image_parts *p, const struct vm_request *q,
	       struct image_op *op, struct err **e)
{
	_cleanup_(json_freep) struct json *config = NULL, *vm = json_new_obj();
	_cleanup_(freep) struct image_disk *disks = calloc(IMAGE_DISKS_MAX, sizeof(*disks));
	_cleanup_(freep) char *real = NULL;
	_cleanup_(closep) int dir = -1;
	struct json *list = json_new_arr();
	struct kernel_info k;
	char path[4200];
	size_t n = 0;
	int r = disks ? kernel_find(s, q->kernel, &k, e) : err_sys(e, ENOMEM, "vm");

	if (r == 0)
		r = disks_make(s, p, disks, &n, op, e);
	if (r == 0)
		r = vm_config(p, disks, n, q, &config, e);
	if (r == 0) {
		r = dir_make(AT_FDCWD, q->dir, 0700);
		if (r < 0)
			err_sys(e, -r, "make '%s'", q->dir);
	}
	if (r == 0 && ((dir = open(q->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
		       !(real = realpath(q->dir, NULL))))
		r = err_sys(e, errno, "open '%s'", q->dir);
	for (size_t i = 0; i < n; i++)
		r = json_push(list, disk_json(disks[i].path, disks[i].serial, true)) ?: r;
	if (r == 0 && q->size) {
		snprintf(path, sizeof(path), "%.4000s/upper.img", real);
		if (access(path, F_OK) < 0)
			r = disks_make_upper(path, q->size, op, e);
		r = json_push(list, disk_json(path, "upper", false)) ?: r;
	}
	r = json_set(vm, "disks", list) ?: r;
	if (r < 0)
		return err_wrap(e, r, "prepare a VM");
	snprintf(path, sizeof(path), "%.4000s/config.json", real);
	r = json_set(vm, "kernel", json_new_str(k.vmlinuz)) ?: r;
	r = json_set(vm, "initrd", json_new_str(k.initrd)) ?: r;
	r = json_set(vm, "append", json_new_str("console=ttyS0 quiet panic=-1")) ?: r;
	r = json_set(vm, "config", json_new_str(path)) ?: r;
	if (r < 0)
		return err_sys(e, -r, "prepare a VM");
	r = write_json(dir, "config.json", config, e);
	return r < 0 ? r : write_json(dir, "vm.json", vm, e);
}
