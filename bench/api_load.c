/* api_load SOCKET PATH SECONDS [CONNECTIONS]: GET of one path, again and again, over keep-alive connections of a unix socket.
 * Prints "requests seconds worst_ms".  The answers must be 200 and of one length. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char request[4096], answer[1 << 24];
static size_t request_len;

struct connection {
	int fd;
	size_t got, want; /* of the answer; want 0: its head is not there yet */
	char head[4096];
	double began;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "api_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void send_request(struct connection *c)
{
	c->got = c->want = 0;
	c->began = now();
	if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
		die("send");
}

/* 1: an answer is complete. */
static int take(struct connection *c)
{
	ssize_t n = recv(c->fd, answer, sizeof(answer), MSG_DONTWAIT);
	char *end, *length;

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		die("recv");
	if (!c->want) {
		size_t room = sizeof(c->head) - 1 - c->got, k = (size_t)n < room ? (size_t)n : room;

		memcpy(c->head + c->got, answer, k);
		c->head[c->got + k] = '\0';
		end = strstr(c->head, "\r\n\r\n");
		if (end) {
			if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) {
				fprintf(stderr, "api_load: %.200s\n", c->head);
				exit(1);
			}
			length = strcasestr(c->head, "Content-Length:");
			c->want = (size_t)(end + 4 - c->head) +
				  strtoul(length ? length + 15 : "0", NULL, 10);
		}
	}
	c->got += (size_t)n;
	return c->want && c->got >= c->want;
}

int main(int argc, char **argv)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int n = argc > 4 ? atoi(argv[4]) : 16, ep = epoll_create1(0);
	struct connection *c = calloc((size_t)n, sizeof(*c));
	double end, start, worst = 0;
	long done = 0;

	if (argc < 4 || !c || n < 1) {
		fprintf(stderr, "usage: api_load SOCKET PATH SECONDS [CONNECTIONS]\n");
		return 2;
	}
	request_len = (size_t)snprintf(request, sizeof(request),
				       "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", argv[2]);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", argv[1]);
	start = now();
	end = start + atof(argv[3]);
	for (int i = 0; i < n; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &c[i] };

		c[i].fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(c[i].fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
		    epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &ev) < 0)
			die("connect");
		send_request(&c[i]);
	}
	while (now() < end) {
		struct epoll_event ev[64];
		int k = epoll_wait(ep, ev, 64, 1000);

		for (int i = 0; i < k; i++) {
			struct connection *x = ev[i].data.ptr;
			double t;

			if (!take(x))
				continue;
			t = now() - x->began;
			worst = t > worst ? t : worst;
			done++;
			send_request(x);
		}
	}
	printf("%ld %.3f %.2f\n", done, now() - start, worst * 1e3);
	free(c);
	return 0;
}
