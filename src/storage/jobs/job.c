/* See job.h and job_ops.h.  A job is a thread, a few numbers under a mutex, and an eventfd for its end. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/clock.h"
#include "storage/jobs/job_ops.h"

struct job {
	const struct job_ops *ops;
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* cancel, rate, end */
	struct job_info info;
	bool cancel, joined;
	int r;
	struct err *e;
	int fd;
	nsec_t owed; /* when the moved bytes are paid for */
	nsec_t saved;
};

void job_info(struct job *j, struct job_info *ret)
{
	pthread_mutex_lock(&j->lock);
	*ret = j->info;
	pthread_mutex_unlock(&j->lock);
}

void job_cancel(struct job *j)
{
	pthread_mutex_lock(&j->lock);
	__atomic_store_n(&j->cancel, true, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
}

void job_set_rate(struct job *j, uint64_t rate)
{
	pthread_mutex_lock(&j->lock);
	j->info.rate = rate;
	j->owed = 0;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
}

int job_fd(const struct job *j)
{
	return j->fd;
}

bool job_ended(struct job *j)
{
	struct job_info i;

	job_info(j, &i);
	return i.state != JOB_RUNNING;
}

bool job_cancelled(const struct job *j)
{
	return __atomic_load_n(&j->cancel, __ATOMIC_RELAXED);
}

int job_step(struct job *j, uint64_t moved, uint64_t done, uint64_t total)
{
	nsec_t now = now_mono(), every = j->ops->save_every ?: NSEC_PER_SEC;
	int r = 0;

	pthread_mutex_lock(&j->lock);
	j->info.done = done;
	j->info.total = total;
	if (j->info.rate) {
		j->owed = MAX(j->owed, now) +
			  (nsec_t)((double)moved * (double)NSEC_PER_SEC / (double)j->info.rate);
		while (j->info.rate && !j->cancel && (now = now_mono()) < j->owed) {
			nsec_t end = MIN(j->owed, now + NSEC_PER_SEC);
			struct timespec ts = { end / NSEC_PER_SEC, end % NSEC_PER_SEC };

			pthread_cond_timedwait(&j->changed, &j->lock, &ts);
		}
	}
	r = j->cancel ? -ECANCELED : 0;
	pthread_mutex_unlock(&j->lock);
	if (r == 0 && j->ops->save && now_mono() - j->saved >= every) {
		r = j->ops->save(j, j->arg, done, total, NULL);
		j->saved = now_mono();
	}
	return r;
}

static void *job_main(void *arg)
{
	struct job *j = arg;
	struct err *e = NULL;
	uint64_t one = 1;
	int r = j->ops->run(j, j->arg, &e);

	if (j->ops->end) {
		struct err *e2 = NULL;
		int k = j->ops->end(j, j->arg, r, &e2);

		if (r >= 0 && k < 0) {
			r = k;
			e = e2;
		} else {
			err_free(e2);
		}
	}
	pthread_mutex_lock(&j->lock);
	j->r = MIN(r, 0);
	j->e = e;
	j->info.ended = now_mono();
	j->info.state = r >= 0 ? JOB_DONE : r == -ECANCELED ? JOB_CANCELLED : JOB_FAILED;
	if (r >= 0)
		j->info.done = j->info.total;
	pthread_cond_broadcast(&j->changed);
	if (write(j->fd, &one, sizeof(one)) < 0)
		j->info.ended = now_mono(); /* cannot happen: the counter was 0 */
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

int job_start(const struct job_ops *ops, void *arg, uint64_t rate, struct job **ret, struct err **e)
{
	struct job *j = calloc(1, sizeof(*j));
	pthread_condattr_t attr;
	sigset_t all, old;
	int r;

	if (!j)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	j->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (j->fd < 0) {
		r = err_sys(e, errno, "eventfd");
		free(j);
		return r;
	}
	j->ops = ops;
	j->arg = arg;
	j->info.rate = rate;
	j->info.type = ops->type;
	j->info.started = j->saved = now_mono();
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&j->changed, &attr);
	pthread_condattr_destroy(&attr);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&j->thread, NULL, job_main, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		j->joined = true;
		j->info.state = JOB_FAILED;
		job_free(j);
		return err_sys(e, r, "start a thread");
	}
	*ret = j;
	return 0;
}

int job_wait(struct job *j, struct err **e)
{
	int r;

	pthread_mutex_lock(&j->lock);
	while (j->info.state == JOB_RUNNING)
		pthread_cond_wait(&j->changed, &j->lock);
	r = j->r;
	pthread_mutex_unlock(&j->lock);
	if (r == -ECANCELED)
		return err_set(e, ECANCELED, "job.cancelled", "%s was cancelled", j->info.type);
	if (r < 0)
		return err_set(e, -r, j->e ? err_id(j->e) : "job.failed", "%s: %s", j->info.type,
			       j->e ? err_msg(j->e) : strerror(-r));
	return 0;
}

void job_free(struct job *j)
{
	if (!j)
		return;
	if (!j->joined) {
		job_cancel(j);
		pthread_join(j->thread, NULL);
	}
	err_free(j->e);
	pthread_cond_destroy(&j->changed);
	pthread_mutex_destroy(&j->lock);
	safe_close(j->fd);
	free(j);
}
