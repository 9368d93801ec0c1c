/* Valid objects at random, from the tables: every rule of the schema is kept. */
#ifndef UNIT_GEN_RANDOM_OBJECT_H
#define UNIT_GEN_RANDOM_OBJECT_H

#include "base/rand.h"
#include "gen/object.h"

/* ret: as after gen_parse() of a valid document; release with gen_done(). */
void random_object(const struct gen_type *t, struct prng *r, void *ret);
/* Text of the format, at most max characters; malloc'd. */
char *random_format(const struct gen_format *f, struct prng *r, size_t max);

#endif
