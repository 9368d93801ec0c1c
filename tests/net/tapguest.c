/* A guest on a tap, as far as the network can tell: takes the NIC's queues from the engine as a VMM would, and hands
 * frames to and from a link "eth0" in a namespace that plays the guest's kernel.
 * usage: net-tapguest STATE.json NIC GUEST-NETNS      until it is killed; prints "ready" */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "net/net.h"
#include "sys/netns.h"
#include "sys/rtnl.h"
#include "sys/tap.h"

static void must(int r, struct err *e)
{
	if (r >= 0)
		return;
	fprintf(stderr, "net-tapguest: %s\n", err_msg(e));
	exit(1);
}

static void copy_frame(int from, int to)
{
	char b[65536 + 64];
	ssize_t n = read(from, b, sizeof(b));

	if (n > 0 && write(to, b, (size_t)n) < 0 && errno != EAGAIN && errno != EIO)
		exit(2);
}

int main(int argc, char **argv)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct tap_cfg guest = { .name = "eth0", .queues = 1, .uid = -1 };
	struct pollfd p[TAP_QUEUES_MAX + 1] = { 0 };
	struct net_cfg cfg = { .state_dir = getenv("STATE") };
	int fds[TAP_QUEUES_MAX], inside;
	struct net_nic_status st;
	struct net_spec s = { 0 };
	struct err *e = NULL;
	unsigned int n = 0;
	struct net *net;
	struct nl nl;

	if (argc != 4)
		return 2;
	must(file_read(AT_FDCWD, argv[1], 1 << 20, &text, &e), e);
	must(net_spec_parse(buf_str(&text), text.len, &s, &e), e);
	must(net_new(&cfg, &net, &e), e);
	must(net_apply(net, &s, NULL, &e), e);
	must(net_nic_tap_fds(net, argv[2], fds, &n, &e), e);
	must(net_nic_status(net, argv[2], &st, &e), e);
	must(netns_open(argv[3], &guest.netns_fd, &e), e);
	must(tap_open(&guest, &inside, &e), e);
	must(nl_open_at(&nl, NETLINK_ROUTE, guest.netns_fd, &e), e);
	rtnl_put_change(
		&b,
		&(struct rtnl_change){
			.name = "eth0", .mac = st.mac, .mtu = st.mtu, .set_up = true, .up = true });
	must(nl_send(&nl, &b, NULL, &e), e);
	for (unsigned int i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	p[n] = (struct pollfd){ .fd = inside, .events = POLLIN };
	printf("ready %u\n", n);
	fflush(stdout);
	for (unsigned int next = 0; poll(p, n + 1, -1) >= 0;) {
		for (unsigned int i = 0; i < n; i++)
			if (p[i].revents & POLLIN)
				copy_frame(fds[i], inside);
		if (p[n].revents & POLLIN) { /* every queue has its turn */
			copy_frame(inside, fds[next]);
			next = next + 1 < n ? next + 1 : 0;
		}
	}
	return 0;
}
