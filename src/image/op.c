/* Progress and cancelling: see op.h. */
#include "image/op.h"

#include <sched.h>

void image_op_report(struct image_op *op, const struct image_progress *p)
{
	if (!op || !op->progress)
		return;
	while (atomic_flag_test_and_set_explicit(&op->busy, memory_order_acquire))
		sched_yield();
	op->progress(op->arg, p);
	atomic_flag_clear_explicit(&op->busy, memory_order_release);
}

int image_op_check(struct image_op *op, struct err **e)
{
	if (op && atomic_load_explicit(&op->cancelled, memory_order_relaxed))
		return err_set(e, ECANCELED, "image.cancelled", "cancelled");
	return 0;
}
