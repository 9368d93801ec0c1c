/* Looking errors up. */
#include "gen/error.h"

#include <string.h>
#include "base/str.h"
#include "gen/formats.h"

const struct gen_error *gen_error_find(const char *id)
{
	size_t low = 0, high = gen_n_errors;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(id, gen_errors[mid].id);

		if (c == 0)
			return &gen_errors[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const struct gen_error *gen_error_of(const struct err *e)
{
	const struct gen_error *found = gen_error_find(err_id(e));

	for (const struct gen_sys_error *s = gen_sys_errors; !found && s->id; s++)
		if (s->num == err_num(e))
			found = gen_error_find(s->id);
	return found ? found : gen_error_find("request.internal");
}

const char *gen_error_id(const struct err *e)
{
	return gen_format_fits(&gen_format_dotted, err_id(e)) ? err_id(e) : gen_error_of(e)->id;
}
