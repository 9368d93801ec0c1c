/* The terminal's side of a stream; see stream.h. */
#include "cli/stream.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>
#include "base/str.h"
#include "cli/request.h"

#define QUEUED_MAX (256U << 10)
#define ESCAPE	   0x1d /* Ctrl-] */

struct cli_stream {
	struct cli *cli;
	struct cli_stream_cfg cfg;
	struct rest_socket *socket;
	struct termios saved;
	bool raw, input_over, escaped;
	int signals; /* signalfd */
	sigset_t old_mask;
	int exit_code; /* -1: not told */
	int error;     /* errno of our own output */
};

static int write_out(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return errno;
		} else if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static void on_message(void *arg, bool text, const void *data, size_t len)
{
	struct cli_stream *s = arg;

	if (text) {
		_cleanup_(json_freep) struct json *j = NULL;

		if (json_parse(data, len, NULL, &j, NULL) == 0 && json_get(j, "exit_code")) {
			const char *message = json_str(json_get(j, "message"));

			s->exit_code = (int)json_int(json_get(j, "exit_code"), 1) & 255;
			if (message && !s->cli->quiet)
				fprintf(stderr, "%s\n", message);
		}
	} else if (len && !s->error) {
		s->error = write_out(*(const char *)data == 2 ? 2 : 1, (const char *)data + 1,
				     len - 1);
	}
}

int cli_stream_open(struct cli *cli, const char *url, const struct cli_stream_cfg *cfg,
		    struct cli_stream **ret, struct err **e)
{
	struct cli_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_sys(e, ENOMEM, "stream");
	s->cli = cli;
	s->cfg = *cfg;
	s->signals = s->exit_code = -1;
	r = cli_connect(cli, e);
	if (r == 0)
		r = rest_socket_open(cli->client, url, on_message, s, &s->socket, e);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void restore(struct cli_stream *s)
{
	if (s->raw)
		tcsetattr(0, TCSADRAIN, &s->saved);
	s->raw = false;
	if (s->signals >= 0)
		sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
	s->signals = safe_close(s->signals);
}

void cli_stream_free(struct cli_stream *s)
{
	if (!s)
		return;
	restore(s);
	rest_socket_free(s->socket);
	free(s);
}

static void tell_size(struct cli_stream *s)
{
	struct winsize ws;
	char text[64];
	int n;

	if (!s->cfg.tty || ioctl(0, TIOCGWINSZ, &ws) < 0 || !ws.ws_row || !ws.ws_col)
		return;
	n = snprintf(text, sizeof(text), "{\"rows\":%u,\"columns\":%u}", ws.ws_row, ws.ws_col);
	rest_socket_send(s->socket, true, text, (size_t)n);
}

/* In a terminal every key goes there; otherwise signals are passed on as such. */
static int prepare(struct cli_stream *s, struct err **e)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGWINCH);
	if (s->cfg.id && !s->cfg.tty) {
		sigaddset(&mask, SIGINT);
		sigaddset(&mask, SIGTERM);
		sigaddset(&mask, SIGHUP);
	}
	sigprocmask(SIG_BLOCK, &mask, &s->old_mask);
	s->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return err_sys(e, errno, "signals");
	if ((s->cfg.tty || s->cfg.escape) && s->cfg.input && isatty(0) &&
	    tcgetattr(0, &s->saved) == 0) {
		struct termios raw = s->saved;

		cfmakeraw(&raw);
		s->raw = tcsetattr(0, TCSADRAIN, &raw) == 0;
	}
	s->input_over = !s->cfg.input;
	tell_size(s);
	return 0;
}

static void take_input(struct cli_stream *s)
{
	char data[16384];
	ssize_t n = read(0, data, sizeof(data));
	char *escape;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		s->input_over = true;
		rest_socket_send(s->socket, true, "{\"eof\":true}", 12);
		return;
	}
	escape = s->cfg.escape && s->raw ? memchr(data, ESCAPE, (size_t)n) : NULL;
	if (escape)
		n = escape - data;
	if (n)
		rest_socket_send(s->socket, false, data, (size_t)n);
	s->escaped = escape != NULL;
}

static void pass_on(struct cli_stream *s, int signo)
{
	_cleanup_(json_freep) struct json *body = json_new_obj();
	struct cli_request rq = { .route = cli_route("instance_kill"),
				  .params = { s->cfg.id },
				  .body = body };
	struct err *e = NULL;

	if (json_set(body, "signal", json_new_fmt("SIG%s", sigabbrev_np(signo))) < 0 ||
	    cli_call(s->cli, &rq, NULL, &e) < 0)
		cli_complain(s->cli, s->cli->args.command->words, e);
}

static void take_signals(struct cli_stream *s)
{
	struct signalfd_siginfo si;

	while (read(s->signals, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGWINCH)
			tell_size(s);
		else
			pass_on(s, (int)si.ssi_signo);
	}
}

static int run(struct cli_stream *s)
{
	for (;;) {
		bool full = rest_socket_queued(s->socket) > QUEUED_MAX;
		struct pollfd p[] = {
			{ .fd = rest_socket_fd(s->socket),
			  .events = (short)(POLLIN |
					    (rest_socket_wants_write(s->socket) ? POLLOUT : 0)) },
			{ .fd = s->input_over || full ? -1 : 0, .events = POLLIN },
			{ .fd = s->signals, .events = POLLIN },
		};
		int r = rest_socket_work(s->socket); /* also what the library has read already */

		if (r < 0 || s->error)
			return 0;
		p[0].events = (short)(POLLIN | (rest_socket_wants_write(s->socket) ? POLLOUT : 0));
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents)
			take_input(s);
		if (p[2].revents)
			take_signals(s);
		if (s->escaped)
			return -ECANCELED;
	}
}

int cli_stream_run(struct cli_stream *s, struct err **e)
{
	int r = prepare(s, e);

	if (r == 0) {
		r = run(s);
		if (r < 0 && r != -ECANCELED)
			err_sys(e, -r, "wait");
	}
	restore(s);
	if (r == 0 && s->error)
		return s->error == EPIPE ? 141 : err_sys(e, s->error, "write to standard output");
	if (r == 0)
		r = s->exit_code < 0 ? -ENODATA : s->exit_code;
	return r;
}
