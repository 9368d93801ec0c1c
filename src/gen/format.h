/* Shapes of text that schema/formats.json names under "check". */
#ifndef GEN_FORMAT_H
#define GEN_FORMAT_H

#include "base/types.h"

bool gen_check_ip(const char *s);
bool gen_check_ipv4(const char *s);
bool gen_check_ipv6(const char *s);
bool gen_check_cidr(const char *s); /* no bit of the host may be set */
bool gen_check_cidr4(const char *s);
bool gen_check_cidr6(const char *s);

#endif
