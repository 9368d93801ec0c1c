/* Structured log lines.  Define LOG_MODULE before the include:
 *
 *	#define LOG_MODULE "qcow2"
 *	#include "base/log.h"
 *	log_warn("l2 entry out of range", "disk", id, "off", off);
 *	log_warn_rl(&rl, "bad descriptor", "queue", q);          at most what rl allows; says how many it dropped
 *
 * After the message come name, value pairs; values may be any integer, bool, double, const char * or
 * struct err *.  Levels change while running, for all modules or one.  Output: logfmt text to stderr (with the
 * time unless journald adds it), or JSON lines.  Control characters from outside are escaped, so a guest cannot
 * forge a line.  Thread: any; a line is one write(2). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"
#include "base/ratelimit.h"
#include "base/types.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_arg {
	enum { LOG_ARG_STR, LOG_ARG_I64, LOG_ARG_U64, LOG_ARG_F64, LOG_ARG_BOOL } kind;
	union {
		const char *str;
		int64_t i64;
		uint64_t u64;
		double f64;
	};
};

/* program: shown in each line, borrowed.  fd: borrowed, default 2. */
void log_setup(const char *program, int fd, enum log_format format);
/* module NULL: the default level of all modules, initially LOG_INFO.  -EINVAL: too many modules (64). */
int log_set_level(const char *module, enum log_level level);
/* "warn", "qcow2=debug,info": the form of --log-level and $STRATA_LOG. */
int log_set_levels(const char *spec, struct err **e);
bool log_enabled(const char *module, enum log_level level);

void log_emit(const char *module, enum log_level level, const char *msg, const struct log_arg *args,
	      size_t n);
/* Internal to the _rl macros. */
bool log_allowed(struct ratelimit *rl);
uint64_t log_take_suppressed(struct ratelimit *rl);

static inline struct log_arg log_arg_str(const char *s)
{
	return (struct log_arg){ .kind = LOG_ARG_STR, .str = s };
}
static inline struct log_arg log_arg_err(const struct err *e)
{
	return log_arg_str(err_msg(e));
}
static inline struct log_arg log_arg_i64(int64_t v)
{
	return (struct log_arg){ .kind = LOG_ARG_I64, .i64 = v };
}
static inline struct log_arg log_arg_u64(uint64_t v)
{
	return (struct log_arg){ .kind = LOG_ARG_U64, .u64 = v };
}
static inline struct log_arg log_arg_f64(double v)
{
	return (struct log_arg){ .kind = LOG_ARG_F64, .f64 = v };
}
static inline struct log_arg log_arg_bool(bool v)
{
	return (struct log_arg){ .kind = LOG_ARG_BOOL, .u64 = v };
}

#define LOG_ARG(x) \
	_Generic((x),                                                                              \
		char *: log_arg_str,                                                               \
		const char *: log_arg_str,                                                         \
		struct err *: log_arg_err,                                                         \
		const struct err *: log_arg_err,                                                   \
		bool: log_arg_bool,                                                                \
		float: log_arg_f64,                                                                \
		double: log_arg_f64,                                                               \
		signed char: log_arg_i64,                                                          \
		short: log_arg_i64,                                                                \
		int: log_arg_i64,                                                                  \
		long: log_arg_i64,                                                                 \
		long long: log_arg_i64,                                                            \
		default: log_arg_u64)(x)

#define LOG_ARGS_0()
#define LOG_ARGS_2(k, v)							  LOG_ARG(k), LOG_ARG(v),
#define LOG_ARGS_4(k, v, ...)							  LOG_ARG(k), LOG_ARG(v), LOG_ARGS_2(__VA_ARGS__)
#define LOG_ARGS_6(k, v, ...)							  LOG_ARG(k), LOG_ARG(v), LOG_ARGS_4(__VA_ARGS__)
#define LOG_ARGS_8(k, v, ...)							  LOG_ARG(k), LOG_ARG(v), LOG_ARGS_6(__VA_ARGS__)
#define LOG_ARGS_10(k, v, ...)							  LOG_ARG(k), LOG_ARG(v), LOG_ARGS_8(__VA_ARGS__)
#define LOG_ARGS_12(k, v, ...)							  LOG_ARG(k), LOG_ARG(v), LOG_ARGS_10(__VA_ARGS__)
/* Picks LOG_ARGS_<count>; an odd count names a macro that does not exist, which the compiler then says. */
#define LOG_COUNT_(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, n, ...) n
#define LOG_COUNT(...)								  LOG_COUNT_(0, ##__VA_ARGS__, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define LOG_CAT_(a, b)								  a##b
#define LOG_CAT(a, b)								  LOG_CAT_(a, b)
#define LOG_ARGS(...)								  LOG_CAT(LOG_ARGS_, LOG_COUNT(__VA_ARGS__))(__VA_ARGS__)

#define log_at(level, msg, ...)                                                             \
	do {                                                                                \
		if (log_enabled(LOG_MODULE, level)) {                                       \
			const struct log_arg _log_args[] = { LOG_ARGS(__VA_ARGS__) };       \
			log_emit(LOG_MODULE, level, msg, _log_args, ARRAY_SIZE(_log_args)); \
		}                                                                           \
	} while (0)
#define log_at_rl(rl, level, msg, ...)                                                            \
	do {                                                                                      \
		if (log_enabled(LOG_MODULE, level) && log_allowed(rl))                            \
			log_at(level, msg, "suppressed", log_take_suppressed(rl), ##__VA_ARGS__); \
	} while (0)

#define log_err(msg, ...)	  log_at(LOG_ERR, msg, ##__VA_ARGS__)
#define log_warn(msg, ...)	  log_at(LOG_WARN, msg, ##__VA_ARGS__)
#define log_info(msg, ...)	  log_at(LOG_INFO, msg, ##__VA_ARGS__)
#define log_debug(msg, ...)	  log_at(LOG_DEBUG, msg, ##__VA_ARGS__)
#define log_err_rl(rl, msg, ...)  log_at_rl(rl, LOG_ERR, msg, ##__VA_ARGS__)
#define log_warn_rl(rl, msg, ...) log_at_rl(rl, LOG_WARN, msg, ##__VA_ARGS__)
#define log_info_rl(rl, msg, ...) log_at_rl(rl, LOG_INFO, msg, ##__VA_ARGS__)

/* A limiter for lines that a guest or peer can cause: `static struct ratelimit rl = LOG_RATE(5, 10);`
 * is five lines a second, ten at once. */
#define LOG_RATE(per_second, at_once)                    \
	{                                                \
		.rate = (per_second), .burst = (at_once) \
	}

#endif
