/* virtio-console: port 0 is the guest's hvc0 when it has a socket, further ports are named channels (agents).
 *                                                                Spec: virtio 1.2, 5.3.
 *
 * Queues: 0/1 receive and transmit of port 0, 2/3 control, then a pair for each further port; all on one I/O loop.
 * What the driver has to be told is kept as bits per port and written out as receive buffers of the control queue
 * come, so nothing is allocated and nothing is lost.  The host's end is a charport. */
#define LOG_MODULE "virtio-console"
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include "base/log.h"
#include "base/save.h"
#include "vmm/charport.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define MAX_PORTS	ARRAY_SIZE(((struct vm_console *)0)->port)
#define QUEUE_SIZE	64
#define CTL_SIZE	32
#define CTL_RX		2
#define CTL_TX		3
#define CTL_MESSAGE_MAX 128 /* the header and a name */

enum { TELL_ADD = 1, TELL_NAME = 2, TELL_CONSOLE = 4, TELL_OPEN = 8, TELL_SIZE = 16 };

struct port {
	struct vconsole *con;
	unsigned int id;
	char name[64];
	struct charport host;
	bool host_open; /* charport is open */
	/* saved */
	uint8_t tell;	     /* TELL_*: messages that wait for a control buffer */
	bool ready;	     /* the driver has the port */
	bool guest_open;     /* a program in the guest has it open */
	bool told_connected; /* the last PORT_OPEN that was sent */
	uint32_t tx_done;    /* bytes of the head transmit buffer that the host took already */
};

struct vconsole {
	struct virtio_dev v; /* first */
	struct virtio_console_config config;
	struct port port[MAX_PORTS];
	unsigned int n_ports;
	bool running; /* queues are started; loop */
	struct vq_chain chain;
	uint8_t emergency;
};

static struct vconsole *vconsole_of(struct virtio_dev *v)
{
	return container_of(v, struct vconsole, v);
}

static unsigned int rx_index(unsigned int port)
{
	return port == 0 ? 0 : 2 + 2 * port;
}

static bool multiport(const struct vconsole *con)
{
	return virtio_has(&con->v, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* May bytes for this port be given to the driver?  Without multiport port 0 is always there. */
static bool guest_listens(const struct port *p)
{
	return multiport(p->con) ? p->ready && p->guest_open : p->id == 0;
}

/* -- control -------------------------------------------------------------------------------------- */

static unsigned int make_message(struct port *p, uint8_t bit, uint8_t *msg)
{
	struct virtio_console_control c = { .id = htole32(p->id) };
	unsigned int len = sizeof(c);

	switch (bit) {
	case TELL_ADD:
		c.event = htole16(VIRTIO_CONSOLE_PORT_ADD);
		break;
	case TELL_NAME:
		c.event = htole16(VIRTIO_CONSOLE_PORT_NAME);
		c.value = htole16(1);
		memcpy(msg + len, p->name, strlen(p->name)); /* without its NUL (5.3.6.2) */
		len += (unsigned int)strlen(p->name);
		break;
	case TELL_CONSOLE:
		c.event = htole16(VIRTIO_CONSOLE_CONSOLE_PORT);
		c.value = htole16(1);
		break;
	case TELL_OPEN:
		/* a console is always open: its ring listens */
		p->told_connected = p->id == 0 || charport_connected(&p->host);
		c.event = htole16(VIRTIO_CONSOLE_PORT_OPEN);
		c.value = htole16(p->told_connected);
		break;
	case TELL_SIZE:
		c.event = htole16(VIRTIO_CONSOLE_RESIZE);
		memcpy(msg + len, &p->con->config.cols, 2);
		memcpy(msg + len + 2, &p->con->config.rows, 2);
		len += 4;
		break;
	}
	memcpy(msg, &c, sizeof(c));
	return len;
}

static void send_control(struct vconsole *con)
{
	struct virtio_queue *q = &con->v.q[CTL_RX];
	uint8_t msg[CTL_MESSAGE_MAX];

	if (!con->running || !multiport(con))
		return;
	for (unsigned int i = 0; i < con->n_ports; i++) {
		struct port *p = &con->port[i];

		while (p->tell) {
			uint8_t bit = (uint8_t)(p->tell & -p->tell);
			unsigned int len;

			if (!virtio_queue_pop(q, &con->chain))
				goto out;
			len = make_message(p, bit, msg);
			if (vq_write(&con->chain, 0, msg, len) < 0) {
				virtio_needs_reset(&con->v, "control buffer too small", CTL_RX);
				return;
			}
			vq_push(&q->vq, &con->chain, len);
			p->tell &= (uint8_t)~bit;
		}
	}
out:
	virtio_queue_commit(q);
}

static void on_control(struct vconsole *con, const struct virtio_console_control *c)
{
	uint32_t id = le32toh(c->id);
	uint16_t event = le16toh(c->event), value = le16toh(c->value);
	struct port *p;

	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (unsigned int i = 0; value == 1 && i < con->n_ports; i++)
			if (con->port[i].host_open)
				con->port[i].tell |= TELL_ADD;
		return;
	}
	if (id >= con->n_ports) {
		log_warn_rl(&con->v.log_rl, "control message for no port", "device",
			    con->v.pd.dev.id, "port", id);
		return;
	}
	p = &con->port[id];
	switch (event) {
	case VIRTIO_CONSOLE_PORT_READY:
		p->ready = value == 1;
		if (!p->ready) {
			log_warn_rl(&con->v.log_rl, "the driver could not add a port", "device",
				    con->v.pd.dev.id, "port", id);
			return;
		}
		p->tell |= TELL_OPEN | (p->name[0] ? TELL_NAME : 0) | (id == 0 ? TELL_CONSOLE : 0) |
			   (id == 0 && con->config.cols ? TELL_SIZE : 0);
		break;
	case VIRTIO_CONSOLE_PORT_OPEN:
		p->guest_open = value == 1;
		break;
	}
}

static void run_control(struct vconsole *con)
{
	struct virtio_queue *q = &con->v.q[CTL_TX];
	struct vq_chain *c = &con->chain;

	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		while (virtio_queue_pop(q, c)) {
			struct virtio_console_control m;

			if (vq_read(c, 0, &m, sizeof(m)) == 0)
				on_control(con, &m);
			vq_push(&q->vq, c, 0);
		}
		virtio_queue_commit(q);
		send_control(con);
		for (unsigned int i = 0; i < con->n_ports; i++)
			charport_want_input(&con->port[i].host, guest_listens(&con->port[i]));
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

/* -- data ----------------------------------------------------------------------------------------- */

/* Host to guest: what is there, as long as the driver gives buffers. */
static void run_rx(struct port *p)
{
	struct vconsole *con = p->con;
	struct virtio_queue *q = &con->v.q[rx_index(p->id)];
	struct vq_chain *c = &con->chain;
	bool more = false;

	if (!q->running || !guest_listens(p)) {
		charport_want_input(&p->host, false);
		return;
	}
	for (int n = 0; n < QUEUE_SIZE; n++) {
		size_t got;

		if (!virtio_queue_pop(q, c)) {
			/* no room: input waits at the host until the driver kicks */
			more = vq_kick_on(&q->vq);
			if (more)
				continue;
			charport_want_input(&p->host, false);
			virtio_queue_commit(q);
			return;
		}
		got = charport_readv(&p->host, c->iov + c->n_out, c->n_in);
		if (got == 0) {
			vq_unpop(&q->vq, c);
			break;
		}
		vq_push(&q->vq, c, (uint32_t)got);
	}
	charport_want_input(&p->host, true);
	virtio_queue_commit(q);
}

/* Guest to host. */
static void run_tx(struct port *p)
{
	struct vconsole *con = p->con;
	struct virtio_queue *q = &con->v.q[rx_index(p->id) + 1];
	struct vq_chain *c = &con->chain;

	if (!q->running)
		return;
	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		while (virtio_queue_pop(q, c)) {
			struct iovec part[VQ_MAX_SEG];
			uint64_t len = c->out_len;
			size_t taken = 0;
			int n;

			/* a restored offset may be wrong: then the buffer counts as done */
			n = p->tx_done < len ? vq_slice(c->iov, c->n_out, p->tx_done,
							len - p->tx_done, part, VQ_MAX_SEG)
					     : 0;
			if (n > 0)
				taken = charport_writev(&p->host, part, (unsigned int)n);
			p->tx_done += (uint32_t)taken;
			if (n > 0 &&
			    p->tx_done < len) { /* the client is slow: writable() goes on */
				vq_unpop(&q->vq, c);
				virtio_queue_commit(q);
				return;
			}
			p->tx_done = 0;
			vq_push(&q->vq, c, 0);
		}
		virtio_queue_commit(q);
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

static void run(struct virtio_queue *q)
{
	struct vconsole *con = vconsole_of(q->v);

	if (q->index == CTL_TX)
		run_control(con);
	else if (q->index == CTL_RX)
		send_control(con);
	else if (q->index % 2 == 0)
		run_rx(&con->port[q->index == 0 ? 0 : q->index / 2 - 1]);
	else
		run_tx(&con->port[q->index == 1 ? 0 : q->index / 2 - 1]);
}

/* -- the host's side ------------------------------------------------------------------------------ */

static void host_changed(struct charport *h)
{
	struct port *p = h->data;

	if (p->id != 0 && p->ready && charport_connected(h) != p->told_connected) {
		p->tell |= TELL_OPEN;
		send_control(p->con);
	}
	run_rx(p);
}

static void host_writable(struct charport *h)
{
	struct port *p = h->data;

	virtio_queue_run(&p->con->v.q[rx_index(p->id) + 1]);
}

static const struct charport_ops host_ops = { host_changed, host_writable };

static void queue_start(struct virtio_queue *q)
{
	struct vconsole *con = vconsole_of(q->v);

	if (con->running)
		return;
	con->running = true;
	for (unsigned int i = 0; i < con->n_ports; i++) {
		struct port *p = &con->port[i];

		charport_start(&p->host, q->loop, &host_ops, p);
		charport_want_input(&p->host, guest_listens(p));
		/* clients may have come or gone while the VM was stopped or saved */
		if (i != 0 && p->ready && charport_connected(&p->host) != p->told_connected)
			p->tell |= TELL_OPEN;
	}
}

static void queue_stop(struct virtio_queue *q)
{
	struct vconsole *con = vconsole_of(q->v);

	if (!con->running)
		return;
	con->running = false;
	for (unsigned int i = 0; i < con->n_ports; i++)
		charport_stop(&con->port[i].host);
}

static void reset(struct virtio_dev *v)
{
	struct vconsole *con = vconsole_of(v);

	for (unsigned int i = 0; i < con->n_ports; i++) {
		struct port *p = &con->port[i];

		p->tell = 0;
		p->ready = p->guest_open = p->told_connected = false;
		p->tx_done = 0;
	}
}

static void put_emergency(void *arg)
{
	struct vconsole *con = arg;
	struct iovec v = { &con->emergency, 1 };

	charport_writev(&con->port[0].host, &v, 1);
}

/* 5.3.4: a character of a guest that has no queues (yet, or any more). */
static void config_write(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			 unsigned int len)
{
	struct vconsole *con = vconsole_of(v);

	if (off != offsetof(struct virtio_console_config, emerg_wr))
		return;
	con->emergency = data[0];
	iothread_call(v->q[0].loop, put_emergency, con);
}

static const struct virtio_kind console_kind = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.class_code = 0x078000, /* communication controller, other */
	.reset = reset,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.run = run,
	.config_write = config_write,
};

/* -- life ----------------------------------------------------------------------------------------- */

static int open_port(struct vconsole *con, const struct vm_console_port *cfg, struct err **e)
{
	struct port *p = &con->port[con->n_ports];
	int r;

	p->con = con;
	p->id = con->n_ports;
	if (cfg->name && strlen(cfg->name) >= sizeof(p->name))
		return err_set(e, EINVAL, "console.name",
			       "port name '%s' is too long (at most %zu bytes)", cfg->name,
			       sizeof(p->name) - 1);
	if (cfg->name)
		strcpy(p->name, cfg->name);
	con->n_ports++;
	charport_none(&p->host);
	if (!cfg->socket && p->id == 0) /* its queues exist, the port is never announced */
		return 0;
	if (!cfg->socket)
		return err_set(e, EINVAL, "console.socket", "port '%s' needs a socket", p->name);
	r = charport_open_socket(&p->host, cfg->socket, p->id == 0, e);
	if (r < 0)
		return err_wrap(e, r, "console port %u", p->id);
	p->host_open = true;
	return 0;
}

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct vconsole *con = vconsole_of(virtio_dev_of(d));
	const struct vm_console *c = &cfg->console;
	int r;

	if (c->n_ports < 1 || c->n_ports > MAX_PORTS)
		return err_set(e, EINVAL, "console.ports", "%u console ports (1 to %zu)",
			       c->n_ports, MAX_PORTS);
	r = virtio_init(&con->v, &console_kind,
			VIRTIO_BIT(VIRTIO_CONSOLE_F_SIZE) |
				VIRTIO_BIT(VIRTIO_CONSOLE_F_EMERG_WRITE) |
				VIRTIO_BIT(VIRTIO_CONSOLE_F_MULTIPORT),
			&con->config, sizeof(con->config), e);
	if (r < 0)
		return r;
	con->config.max_nr_ports = htole32(c->n_ports);
	/* the control pair lies between port 0 and the others, so order matters more than size */
	r = virtio_add_queues(&con->v, 2, QUEUE_SIZE, e);
	if (r == 0)
		r = virtio_add_queues(&con->v, 2, CTL_SIZE, e);
	if (r == 0)
		r = virtio_add_queues(&con->v, 2 * (c->n_ports - 1), QUEUE_SIZE, e);
	for (unsigned int i = 0; r == 0 && i < c->n_ports; i++)
		r = open_port(con, &c->port[i], e);
	return r;
}

static void destruct(struct dev *d)
{
	struct vconsole *con = vconsole_of(virtio_dev_of(d));

	for (unsigned int i = 0; i < MAX_PORTS; i++)
		if (con->port[i].host_open)
			charport_close(&con->port[i].host);
	virtio_done(&con->v);
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct vconsole *con = vconsole_of(virtio_dev_of(d));
	uint64_t in = 0, out = 0, lost = 0;

	virtio_stats(d, put, arg);
	for (unsigned int i = 0; i < con->n_ports; i++) {
		in += __atomic_load_n(&con->port[i].host.n_in, __ATOMIC_RELAXED);
		out += __atomic_load_n(&con->port[i].host.n_out, __ATOMIC_RELAXED);
		lost += __atomic_load_n(&con->port[i].host.n_lost, __ATOMIC_RELAXED);
	}
	put(arg, "bytes_in", in);
	put(arg, "bytes_out", out);
	put(arg, "bytes_lost", lost);
}

static void resized(void *arg)
{
	struct vconsole *con = arg;

	if (con->port[0].ready)
		con->port[0].tell |= TELL_SIZE;
	send_control(con);
}

static int set(struct dev *d, const char *key, uint64_t value, struct err **e)
{
	struct vconsole *con = vconsole_of(virtio_dev_of(d));
	bool cols = strcmp(key, "cols") == 0;

	if (!cols && strcmp(key, "rows") != 0)
		return -ENOENT;
	if (value > UINT16_MAX)
		return err_set(e, ERANGE, "console.size", "%s must be at most %u", key, UINT16_MAX);
	virtio_config_begin(&con->v);
	if (cols)
		con->config.cols = htole16((uint16_t)value);
	else
		con->config.rows = htole16((uint16_t)value);
	virtio_config_end(&con->v);
	iothread_call(con->v.q[0].loop, resized, con);
	return 0;
}

/* -- state ---------------------------------------------------------------------------------------- */

static const struct save_field port_fields[] = {
	SAVE(struct port, tell, U8, 1),		SAVE(struct port, ready, BOOL, 1),
	SAVE(struct port, guest_open, BOOL, 1), SAVE(struct port, told_connected, BOOL, 1),
	SAVE(struct port, tx_done, U32, 1),
};
static const struct save_desc port_save = SAVE_DESC("console-port", 1, 1, port_fields);

static int after_load(void *obj, uint32_t version, struct err **e)
{
	struct vconsole *con = obj;

	for (unsigned int i = 0; i < MAX_PORTS; i++) {
		con->port[i].tell &= TELL_ADD | TELL_NAME | TELL_CONSOLE | TELL_OPEN | TELL_SIZE;
		if (i >= con->n_ports && (con->port[i].tell || con->port[i].ready))
			return err_set(e, EINVAL, "vm.state",
				       "state of console port %u, which is not there", i);
	}
	return 0;
}

static const struct save_field fields[] = {
	SAVE_NESTED(struct vconsole, v, &virtio_save, 1),
	SAVE_NESTED_ARRAY(struct vconsole, port, &port_save, 1),
};
static const struct save_desc console_save =
	SAVE_DESC("virtio-console", 1, 1, fields, .after_load = after_load);

const struct device_ops dev_virtio_console = {
	.type = "virtio-console",
	.instance_size = sizeof(struct vconsole),
	.construct = construct,
	.destruct = destruct,
	.plug = virtio_plug,
	.unplug = virtio_unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = virtio_resume,
	.state = &console_save,
	.stats = stats,
	.set = set,
};
