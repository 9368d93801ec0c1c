/* Round trips of small UDP packets; bench/net-path.sh runs it.
 * usage: net-pingpong serve            answers on port 7
 *        net-pingpong HOST N           prints the median and the least of N round trips in microseconds */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(7) }, from;
	struct timeval limit = { .tv_sec = 2 };
	socklen_t len = sizeof(from);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), n;
	char b[64] = { 0 };
	double *v;

	if (argc == 2) {
		if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
			return 1;
		for (;; len = sizeof(from))
			if (recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&from, &len) > 0 &&
			    sendto(fd, b, sizeof(b), 0, (struct sockaddr *)&from, len) < 0)
				return 1;
	}
	n = argc == 3 ? atoi(argv[2]) : 0;
	v = calloc((size_t)n + 1, sizeof(*v));
	if (n < 1 || !v || inet_pton(AF_INET, argv[1], &at.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return 1;
	for (int i = 0; i < n; i++) {
		double t = now_us();

		if (send(fd, b, sizeof(b), 0) < 0 || recv(fd, b, sizeof(b), 0) < 0)
			return 1;
		v[i] = now_us() - t;
	}
	qsort(v, (size_t)n, sizeof(*v), by_value);
	printf("%.2f %.2f\n", v[n / 2], v[0]);
	free(v);
	return 0;
}
