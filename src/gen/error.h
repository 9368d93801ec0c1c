/* Errors as the API answers them: schema/errors.json.  gen/errors.h has a macro for each id, for err_set():
 *	return err_set(e, ENOENT, ERR_INSTANCE_NOT_FOUND, "no instance '%s'", name); */
#ifndef GEN_ERROR_H
#define GEN_ERROR_H

#include "base/err.h"

struct gen_error {
	const char *id;
	int status;	  /* HTTP */
	const char *help; /* the general sentence */
	const char *hint; /* what to do; NULL: nothing in general */
};

struct gen_sys_error {
	int num;
	const char *id;
};

extern const struct gen_error gen_errors[]; /* by id */
extern const size_t gen_n_errors;
extern const struct gen_sys_error gen_sys_errors[]; /* ends with num 0 */

const struct gen_error *gen_error_find(const char *id); /* NULL: none such */
/* How to answer e: by its id, else by its errno, else 500 "request.internal".  Never NULL. */
const struct gen_error *gen_error_of(const struct err *e);
/* The id that clients see: e's own when it has the form of one, else (sys.ENOENT, say) that of gen_error_of(). */
const char *gen_error_id(const struct err *e);

#endif
