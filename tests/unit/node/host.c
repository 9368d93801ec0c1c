/* Capacity from /proc/cpuinfo: sockets x cores x threads, and MHz. */
#include "unit.h"
#include "base/buf.h"
#include "node/host.h"

/* n_sockets x n_cores x n_threads processors at `mhz`, as the kernel prints them. */
static char *cpuinfo(int n_sockets, int n_cores, int n_threads, double mhz)
{
	struct buf b = { 0 };
	int n = 0;

	for (int s = 0; s < n_sockets; s++)
		for (int c = 0; c < n_cores; c++)
			for (int t = 0; t < n_threads; t++)
				buf_addf(
					&b,
					"processor\t: %d\nmodel name\t: Test CPU\ncpu MHz\t\t: %.3f\nphysical id\t: %d\n"
					"siblings\t: %d\ncore id\t\t: %d\ncpu cores\t: %d\nflags\t\t: fpu\n\n",
					n++, mhz, s, n_cores * n_threads, c, n_cores);
	return buf_take(&b);
}

/* The worked example: 4 CPUs x 4 cores x 2 threads = 32 vCPU, x 3.0 GHz = 96 GHz. */
static void capacity_is_the_product(void **state)
{
	char *text = cpuinfo(4, 4, 2, 3000);
	struct host_cpu c;

	host_cpu_parse(text, &c);
	assert_int_equal(c.sockets, 4);
	assert_int_equal(c.cores, 4);
	assert_int_equal(c.threads, 2);
	assert_int_equal(host_vcpus(&c), 32);
	assert_int_equal(host_vcpus(&c) * c.mhz, 96000);
	assert_string_equal(c.model, "Test CPU");
	free(text);
}

static void odd_texts_give_what_is_online(void **state)
{
	struct host_cpu c;

	host_cpu_parse("", &c);
	assert_int_equal(host_vcpus(&c), 1);
	host_cpu_parse("processor : 0\nprocessor : 1\nprocessor : 2\n", &c);
	assert_int_equal(host_vcpus(&c), 3);
	/* 2 processors that claim to be in one socket of 8 cores */
	host_cpu_parse("processor\t: 0\nphysical id\t: 0\nsiblings\t: 8\ncpu cores\t: 8\n"
		       "processor\t: 1\nphysical id\t: 0\nsiblings\t: 8\ncpu cores\t: 8\n",
		       &c);
	assert_int_equal(host_vcpus(&c), 2);
}

static void this_host_has_some(void **state)
{
	struct host_memory m;
	struct host_cpu c;

	assert_int_equal(host_cpu_read(&c, NULL), 0);
	assert_int_equal(c.cpus, (unsigned int)sysconf(_SC_NPROCESSORS_ONLN));
	assert_int_equal(host_memory_read(&m, NULL), 0);
	assert_true(m.total > 0 && m.available > 0 && m.available <= m.total);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capacity_is_the_product),
		cmocka_unit_test(odd_texts_give_what_is_online),
		cmocka_unit_test(this_host_has_some),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
