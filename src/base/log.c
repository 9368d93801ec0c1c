/* Structured log; see log.h. */
#include "base/log.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

#define MODULES_MAX 64

static const char *const level_names[] = { "error", "warn", "info", "debug" };

static struct {
	const char *program;
	int fd;
	enum log_format format;
	bool stamp; /* journald adds its own time */
	enum log_level level;
	pthread_mutex_t lock; /* guards modules[] writers; readers see n_modules last */
	size_t n_modules;
	struct {
		char name[24];
		enum log_level level;
	} modules[MODULES_MAX];
} state = { .fd = 2, .stamp = true, .level = LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER };

void log_setup(const char *program, int fd, enum log_format format)
{
	state.program = program;
	state.fd = fd;
	state.format = format;
	state.stamp = !getenv("JOURNAL_STREAM");
}

static int find_module(const char *module)
{
	size_t n = __atomic_load_n(&state.n_modules, __ATOMIC_ACQUIRE);

	for (size_t i = 0; i < n; i++) {
		if (streq(state.modules[i].name, module))
			return (int)i;
	}
	return -1;
}

int log_set_level(const char *module, enum log_level level)
{
	int r = 0, i;

	if (!module) {
		__atomic_store_n(&state.level, level, __ATOMIC_RELAXED);
		return 0;
	}
	if (strlen(module) >= sizeof(state.modules[0].name))
		return -EINVAL;
	pthread_mutex_lock(&state.lock);
	i = find_module(module);
	if (i >= 0) {
		__atomic_store_n(&state.modules[i].level, level, __ATOMIC_RELAXED);
	} else if (state.n_modules < MODULES_MAX) {
		strcpy(state.modules[state.n_modules].name, module);
		state.modules[state.n_modules].level = level;
		__atomic_store_n(&state.n_modules, state.n_modules + 1, __ATOMIC_RELEASE);
	} else {
		r = -EINVAL;
	}
	pthread_mutex_unlock(&state.lock);
	return r;
}

static int parse_level(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (streq(s, level_names[i]))
			return (int)i;
	}
	return streq(s, "err") ? LOG_ERR : -1;
}

int log_set_levels(const char *spec, struct err **e)
{
	_cleanup_(strv_freep) char **parts = strv_split(spec, ",");

	if (!parts)
		return err_sys(e, ENOMEM, "log level");
	for (char **p = parts; *p; p++) {
		char *eq = strchr(*p, '=');
		int level = parse_level(eq ? eq + 1 : *p);

		if (level < 0)
			return err_set(e, EINVAL, "log.level",
				       "'%s': want error, warn, info or debug, or MODULE=LEVEL",
				       *p);
		if (eq)
			*eq = '\0';
		if (log_set_level(eq ? *p : NULL, (enum log_level)level) < 0)
			return err_set(e, EINVAL, "log.module",
				       "'%s': too long or too many modules", *p);
	}
	return 0;
}

bool log_enabled(const char *module, enum log_level level)
{
	int i = state.n_modules ? find_module(module) : -1;
	enum log_level limit = i >= 0 ? __atomic_load_n(&state.modules[i].level, __ATOMIC_RELAXED)
				      : __atomic_load_n(&state.level, __ATOMIC_RELAXED);

	return level <= limit;
}

bool log_allowed(struct ratelimit *rl)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool ok;

	pthread_mutex_lock(&lock);
	ok = ratelimit_take(rl, 1, now_mono()) == 0;
	if (!ok)
		rl->suppressed++;
	pthread_mutex_unlock(&lock);
	return ok;
}

uint64_t log_take_suppressed(struct ratelimit *rl)
{
	return __atomic_exchange_n(&rl->suppressed, 0, __ATOMIC_RELAXED);
}

static void add_value(struct buf *b, const struct log_arg *a, bool json)
{
	switch (a->kind) {
	case LOG_ARG_STR: {
		const char *s = a->str ? a->str : "(null)";

		/* logfmt: bare when nothing in it could be mistaken */
		if (!json && *s && !strpbrk(s, " \"=\\\t\n") && utf8_valid(s) && strlen(s) < 256) {
			bool plain = true;

			for (const char *p = s; *p; p++)
				plain &= (unsigned char)*p > 0x20 && *p != 0x7f;
			if (plain) {
				buf_adds(b, s);
				return;
			}
		}
		buf_add_json(b, s);
		return;
	}
	case LOG_ARG_I64:
		buf_addf(b, "%lld", (long long)a->i64);
		return;
	case LOG_ARG_U64:
		buf_addf(b, "%llu", (unsigned long long)a->u64);
		return;
	case LOG_ARG_F64:
		buf_addf(b, "%.9g", a->f64);
		return;
	case LOG_ARG_BOOL:
		buf_adds(b, a->u64 ? "true" : "false");
		return;
	}
}

void log_emit(const char *module, enum log_level level, const char *msg, const struct log_arg *args,
	      size_t n)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	bool json = state.format == LOG_JSON;
	char stamp[32];

	format_time(now_real(), stamp, sizeof(stamp));
	if (json) {
		buf_addf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"module\":\"%s\",\"msg\":", stamp,
			 level_names[level], module);
		buf_add_json(&b, msg);
	} else {
		if (state.stamp)
			buf_addf(&b, "%s ", stamp);
		if (state.program)
			buf_addf(&b, "%s[%d] ", state.program, (int)getpid());
		buf_addf(&b, "%s %s: %s", level_names[level], module, msg);
	}
	for (size_t i = 0; i + 1 < n; i += 2) {
		/* the limiter's own field is noise while nothing was dropped */
		if (streq(args[i].str, "suppressed") && args[i + 1].kind == LOG_ARG_U64 &&
		    args[i + 1].u64 == 0)
			continue;
		if (json) {
			buf_addc(&b, ',');
			buf_add_json(&b, args[i].str);
			buf_addc(&b, ':');
		} else {
			buf_addf(&b, " %s=", args[i].str);
		}
		add_value(&b, &args[i + 1], json);
	}
	buf_adds(&b, json ? "}\n" : "\n");
	if (b.error)
		return;
	for (size_t off = 0; off < b.len;) {
		ssize_t w = write(state.fd, b.s + off, b.len - off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return; /* nowhere left to complain */
		off += (size_t)w;
	}
}
