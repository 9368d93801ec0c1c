/* QEMU's command line; see qemu_args.h.  Source: QEMU 7.2, docs/system/invocation, qapi/block-core.json. */
#include "node/engine/qemu_args.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "ext/json.h"
#include "guest/guest.h"

#define OVMF_CODE "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define OVMF_VARS "/usr/share/OVMF/OVMF_VARS_4M.fd"

struct args {
	VEC(char *) v;
	struct vm_command *out;
	int error;
};

static void add(struct args *a, const char *fmt, ...) _printf_(2, 3);
static void add(struct args *a, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		a->error = -ENOMEM;
	else if (vec_push(&a->v, s) < 0) {
		free(s);
		a->error = -ENOMEM;
	}
	va_end(ap);
}

static void add_json(struct args *a, const char *option, struct json *o)
{
	char *s = json_text(o, JSON_COMPACT);

	json_free(o);
	add(a, "%s", option);
	add(a, "%s", s ?: "");
	if (!s)
		a->error = -ENOMEM;
	free(s);
}

static void keep(struct args *a, int fd)
{
	if (vec_push(&a->out->keep, fd) < 0)
		a->error = -ENOMEM;
}

static void socket_chardev(struct args *a, const char *name, int fd)
{
	add(a, "-chardev");
	add(a, "socket,id=%s,fd=%d,server=on,wait=off", name, fd);
	keep(a, fd);
}

/* -- disks ---------------------------------------------------------------------------------------- */

static void bucket(struct json *o, const char *prefix, const char *suffix, uint64_t rate,
		   uint64_t burst, bool has_burst, nsec_t length)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%s", prefix, suffix);
	json_set(o, name, json_new_int((int64_t)rate));
	if (!has_burst || burst <= rate)
		return;
	snprintf(name, sizeof(name), "%s%s-max", prefix, suffix);
	json_set(o, name, json_new_int((int64_t)burst));
	snprintf(name, sizeof(name), "%s%s-max-length", prefix, suffix);
	json_set(o, name, json_new_int(MAX(length / NSEC_PER_SEC, (nsec_t)1)));
}

struct json *qemu_throttle(const struct api_disk_limits *l)
{
	/* In this order a live change clears what is not named: QEMU takes the object as a whole. */
	struct json *o = json_new_obj();
	const struct api_bucket *iops[] = { l->iops, l->iops_read, l->iops_write };
	const struct api_byte_bucket *bps[] = { l->bps, l->bps_read, l->bps_write };
	static const char *const kind[] = { "-total", "-read", "-write" };

	for (size_t i = 0; i < 3; i++) {
		if (iops[i])
			bucket(o, "iops", kind[i], iops[i]->rate, iops[i]->burst,
			       iops[i]->has_burst, iops[i]->burst_length);
		if (bps[i])
			bucket(o, "bps", kind[i], bps[i]->rate, bps[i]->burst, bps[i]->has_burst,
			       bps[i]->burst_length);
	}
	return o;
}

static void disk(struct args *a, const struct plan_disk *d, size_t index)
{
	struct json *o = json_new_obj(), *file = json_new_obj(), *image = json_new_obj();
	struct stat st;
	bool device = stat(d->path, &st) == 0 && S_ISBLK(st.st_mode);

	json_set(o, "qom-type", json_new_str("throttle-group"));
	json_set(o, "id", json_new_fmt("limit-%s", d->id));
	json_set(o, "limits", qemu_throttle(&d->limits));
	add_json(a, "-object", o);

	json_set(file, "driver", json_new_str(device ? "host_device" : "file"));
	json_set(file, "filename", json_new_str(d->path));
	json_set(file, "discard", json_new_str("unmap"));
	json_set(image, "driver",
		 json_new_str(d->format == API_DISK_FORMAT_QCOW2 ? "qcow2" : "raw"));
	json_set(image, "node-name", json_new_fmt("image-%s", d->id));
	json_set(image, "read-only", json_new_bool(d->readonly));
	json_set(image, "discard", json_new_str("unmap"));
	if (!d->readonly)
		json_set(image, "detect-zeroes", json_new_str("unmap"));
	json_set(image, "file", file);
	add_json(a, "-blockdev", image);

	o = json_new_obj();
	json_set(o, "driver", json_new_str("throttle"));
	json_set(o, "node-name", json_new_fmt("disk-%s", d->id));
	json_set(o, "throttle-group", json_new_fmt("limit-%s", d->id));
	json_set(o, "file", json_new_fmt("image-%s", d->id));
	json_set(o, "read-only", json_new_bool(d->readonly));
	json_set(o, "discard", json_new_str("unmap"));
	add_json(a, "-blockdev", o);

	add(a, "-device");
	switch (d->bus) {
	case API_DISK_BUS_SATA:
		add(a, "ide-hd,drive=disk-%s,id=%s,serial=%s,bus=ide.%zu,bootindex=%zu", d->id,
		    d->id, d->serial ?: d->id, index % 6, index + 1);
		break;
	case API_DISK_BUS_USB:
		add(a, "usb-storage,drive=disk-%s,id=%s,serial=%s,bus=usb.0,bootindex=%zu", d->id,
		    d->id, d->serial ?: d->id, index + 1);
		break;
	default:
		add(a, "virtio-blk-pci,drive=disk-%s,id=%s,serial=%s,bootindex=%zu", d->id, d->id,
		    d->serial ?: d->id, index + 1);
	}
}

/* -- network -------------------------------------------------------------------------------------- */

static void nic(struct args *a, const struct plan_nic *n)
{
	_cleanup_(buf_done) struct buf fds = { 0 };
	bool vhost = access("/dev/vhost-net", R_OK | W_OK) == 0,
	     virtio = n->model == API_NIC_MODEL_VIRTIO;

	for (unsigned int q = 0; q < n->n_queues; q++) {
		buf_addf(&fds, "%s%d", q ? ":" : "", n->tap[q]);
		keep(a, n->tap[q]);
	}
	if (buf_error(&fds))
		a->error = -ENOMEM;
	add(a, "-netdev");
	add(a, "tap,id=net-%s,%s=%s%s", n->id, n->n_queues > 1 ? "fds" : "fd", buf_str(&fds),
	    vhost && virtio ? ",vhost=on" : "");
	add(a, "-device");
	if (virtio)
		add(a,
		    "virtio-net-pci,netdev=net-%s,id=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x,host_mtu=%u,romfile=%s",
		    n->id, n->id, n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
		    n->mtu ?: 1500, "");
	else
		add(a, "e1000e,netdev=net-%s,id=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x,romfile=%s",
		    n->id, n->id, n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
		    "");
	if (virtio && n->n_queues > 1)
		add(a, "-global"), add(a, "virtio-net-pci.mq=on");
}

/* -- firmware ------------------------------------------------------------------------------------- */

/* The guest's UEFI variables lie beside its first writable disk. */
static int uefi(struct args *a, const struct engine_plan *p, struct err **e)
{
	_cleanup_(freep) char *vars = NULL;
	const struct plan_disk *d;
	struct stat st;
	int r;

	vec_for_each(d, &p->disks)
		if (!d->readonly)
			break;
	if (d == p->disks.v + p->disks.n)
		return err_set(e, ENOTSUP, "engine.uefi", "UEFI needs a writable disk");
	if (access(OVMF_CODE, R_OK) < 0)
		return err_set(e, ENOTSUP, "engine.uefi",
			       "UEFI firmware is not installed (apt-get install ovmf)");
	if (asprintf(&vars, "%s.uefi-vars", d->path) < 0)
		return err_sys(e, ENOMEM, "UEFI");
	if (stat(vars, &st) < 0) {
		_cleanup_(buf_done) struct buf b = { 0 };

		r = file_read(AT_FDCWD, OVMF_VARS, 8 << 20, &b, e);
		if (r == 0)
			r = file_write_atomic(AT_FDCWD, vars, b.s, b.len, 0600, e);
		if (r < 0)
			return r;
	}
	add(a, "-drive");
	add(a, "if=pflash,format=raw,unit=0,readonly=on,file=" OVMF_CODE);
	add(a, "-drive");
	add(a, "if=pflash,format=raw,unit=1,file.filename=%s,file.driver=file", vars);
	return 0;
}

/* -- all ------------------------------------------------------------------------------------------ */

static void machine(struct args *a, const struct engine_plan *p, const char *id, bool kvm)
{
	const struct api_instance_cpu *cpu = &p->spec->cpu;
	const struct api_instance_memory *mem = &p->spec->memory;
	uint64_t size = mem->has_size ? mem->size : 512 * MIB;

	add(a, "qemu-system-x86_64");
	add(a, "-name");
	add(a, "guest=%s,debug-threads=on", p->hostname ?: "vm");
	add(a, "-uuid");
	add(a, "%s", id);
	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-machine");
	add(a, "q35,memory-backend=memory,vmport=off,hpet=off%s", kvm ? "" : ",usb=off");
	add(a, "-accel");
	add(a, "%s", kvm ? "kvm" : "tcg,thread=multi");
	add(a, "-cpu");
	add(a, "%s", kvm ? "host" : "max");
	add(a, "-smp");
	add(a, "%llu", (unsigned long long)(cpu->has_count ? cpu->count : 1));
	add(a, "-m");
	add(a, "%lluk", (unsigned long long)size / 1024);
	add(a, "-object");
	add(a, "memory-backend-%s,id=memory,size=%llu%s", mem->hugepages ? "memfd" : "ram",
	    (unsigned long long)size / 1024 * 1024, mem->hugepages ? ",hugetlb=on" : "");
	add(a, "-rtc");
	add(a, "base=utc,clock=host,driftfix=none");
	add(a, "-msg");
	add(a, "timestamp=off");
	/* A guest that broke out of the emulation cannot start programs or raise its rights. */
	add(a, "-sandbox");
	add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add(a, "-action");
	add(a, "panic=exit-failure,reboot=%s", p->kernel ? "shutdown" : "reset");
	add(a, "-device");
	add(a, "pvpanic-pci");
	add(a, "-object");
	add(a, "rng-random,id=rng,filename=/dev/urandom");
	add(a, "-device");
	add(a, "virtio-rng-pci,rng=rng");
	if (p->spec->vm.balloon) {
		add(a, "-device");
		add(a, "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on");
	}
}

static int boot(struct args *a, const struct engine_plan *p, const char *dir, struct err **e)
{
	if (p->kernel) {
		add(a, "-kernel");
		add(a, "%s", p->kernel);
		if (p->initrd) {
			add(a, "-initrd");
			add(a, "%s", p->initrd);
		}
		if (p->append) {
			add(a, "-append");
			add(a, "%s", p->append);
		}
		add(a, "-fw_cfg");
		add(a, "name=" GUEST_FW_CFG ",file=%s/guest.json", dir);
	}
	if (p->spec->vm.boot == API_VM_BOOT_UEFI)
		return uefi(a, p, e);
	return 0;
}

int qemu_args(const struct engine_plan *p, const char *id, const char *dir, bool kvm,
	      const struct vm_sockets *s, struct vm_command *ret, struct err **e)
{
	struct args a = { .out = ret };
	int r;

	*ret = (struct vm_command){ 0 };
	machine(&a, p, id, kvm);
	r = boot(&a, p, dir, e);
	socket_chardev(&a, "monitor", s->monitor);
	add(&a, "-mon");
	add(&a, "chardev=monitor,mode=control");
	socket_chardev(&a, "serial", s->serial);
	add(&a, "-serial");
	add(&a, "chardev:serial");
	if (s->agent >= 0) {
		socket_chardev(&a, "agent", s->agent);
		add(&a, "-device");
		add(&a, "virtio-serial-pci");
		add(&a, "-device");
		add(&a, "virtserialport,chardev=agent,name=" GUEST_PORT_NAME);
	}
	for (size_t i = 0; i < p->disks.n; i++)
		if (p->disks.v[i].bus == API_DISK_BUS_USB) {
			add(&a, "-device");
			add(&a, "qemu-xhci,id=usb");
			break;
		}
	for (size_t i = 0; i < p->disks.n; i++)
		disk(&a, &p->disks.v[i], i);
	if (p->seed) {
		struct plan_disk seed = { .id = (char *)"seed",
					  .path = p->seed,
					  .format = API_DISK_FORMAT_RAW,
					  .readonly = true };

		disk(&a, &seed, p->disks.n);
	}
	for (size_t i = 0; i < p->nics.n; i++)
		nic(&a, &p->nics.v[i]);
	add(&a, "-display");
	add(&a, "none");
	if (p->spec->vm.display == API_VM_DISPLAY_VNC) {
		add(&a, "-vga");
		add(&a, "std");
		add(&a, "-vnc");
		add(&a, "unix:%s/vnc.sock", dir);
		add(&a, "-device");
		add(&a, "qemu-xhci,id=input");
		add(&a, "-device");
		add(&a, "usb-tablet,bus=input.0");
	}
	if (p->restore) {
		add(&a, "-incoming");
		add(&a, "defer");
	}
	if (r == 0 && a.error == 0 && vec_push(&a.v, NULL) < 0)
		a.error = -ENOMEM;
	if (r == 0 && a.error < 0)
		r = err_sys(e, ENOMEM, "QEMU's command line");
	ret->argv = a.v.v;
	if (r < 0) {
		for (size_t i = 0; i < a.v.n; i++)
			free(a.v.v[i]);
		free(a.v.v);
		ret->argv = NULL;
		vm_command_done(ret);
	}
	return r;
}
