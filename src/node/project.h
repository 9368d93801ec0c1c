/* Projects: tenants.  What they use is summed up when somebody asks. */
#ifndef NODE_PROJECT_H
#define NODE_PROJECT_H

#include "gen/project.h"
#include "node/inventory.h"

/* The project 'default' is always there. */
int project_ensure_default(struct inventory *inv, struct err **e);
/* What the objects of a project come to. */
void project_usage(struct inventory *inv, const char *name, struct api_project_status *ret);
/* Does anything belong to it? */
bool project_in_use(struct inventory *inv, const char *name);

#endif
