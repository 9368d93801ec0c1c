/* A writer of ACPI Machine Language.                       Spec: ACPI 6.4, 20.
 *
 * Terms are appended to a struct buf in order; a block (scope, device, method, package, buffer) is opened by
 * aml_*_begin(), which returns a mark, and closed by aml_end(mark).  Errors stick to the buf (buf_error). */
#ifndef VMM_ACPI_AML_H
#define VMM_ACPI_AML_H

#include "base/buf.h"
#include "base/types.h"

/* path: "_SB_", "\\_GPE", "PCI0.COM1": segments of at most 4 characters, padded here. */
size_t aml_scope_begin(struct buf *b, const char *path);
size_t aml_device_begin(struct buf *b, const char *name);
size_t aml_method_begin(struct buf *b, const char *name, unsigned int n_args);
size_t aml_package_begin(struct buf *b, unsigned int n_elements);
void aml_end(struct buf *b, size_t mark);

void aml_name(struct buf *b, const char *path); /* NameOp and the path; the value follows */
void aml_path(struct buf *b, const char *path); /* a reference */
void aml_int(struct buf *b, uint64_t v);
void aml_string(struct buf *b, const char *s);
void aml_eisaid(struct buf *b, const char *id); /* "PNP0A08" */
void aml_name_int(struct buf *b, const char *name, uint64_t v);
void aml_name_string(struct buf *b, const char *name, const char *s);
void aml_name_eisaid(struct buf *b, const char *name, const char *id);
void aml_notify(struct buf *b, const char *path, uint8_t value);

/* Resource templates: begin, descriptors, end.  Close with aml_crs_end(). */
struct aml_crs {
	size_t package, start;
};
struct aml_crs aml_crs_begin(struct buf *b); /* Name(_CRS, ResourceTemplate () {...}) */
void aml_crs_io(struct buf *b, uint16_t base, uint8_t len);
void aml_crs_irq(struct buf *b, uint8_t irq); /* edge, active high */
void aml_crs_memory32(struct buf *b, uint32_t base, uint32_t len);
void aml_crs_bus(struct buf *b, uint16_t min, uint16_t max);
void aml_crs_io_window(struct buf *b, uint16_t min, uint16_t max);
void aml_crs_mem32_window(struct buf *b, uint32_t min, uint32_t max);
void aml_crs_mem64_window(struct buf *b, uint64_t min, uint64_t max);
void aml_crs_end(struct buf *b, struct aml_crs c);

#endif
