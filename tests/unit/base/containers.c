/* List, vector, hash map, checked arithmetic, seeded randomness. */
#include "unit.h"
#include "base/checked.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/rand.h"
#include "base/vec.h"

struct item {
	struct list link;
	struct hnode node;
	uint64_t key;
};

static void lists(void **state)
{
	struct list head = LIST_INIT(head), other = LIST_INIT(other);
	struct item a = { .key = 1 }, b = { .key = 2 }, *p, *tmp;
	uint64_t sum = 0;

	list_add_tail(&head, &a.link);
	list_add_tail(&head, &b.link);
	list_for_each_entry(p, &head, link)
		sum = sum * 10 + p->key;
	assert_int_equal(sum, 12);
	list_splice_tail(&other, &head);
	assert_true(list_empty(&head));
	list_for_each_entry_safe(p, tmp, &other, link)
		list_del(&p->link);
	list_del(&a.link); /* a second time is harmless */
	assert_true(list_empty(&other));
	assert_null(list_pop(&other));
	assert_null(list_first_entry(&other, struct item, link));
}

static void vectors(void **state)
{
	VEC(int) v = { 0 };

	for (int i = 0; i < 100; i++)
		assert_int_equal(vec_push(&v, i), 0);
	vec_remove(&v, 0);
	assert_int_equal(v.n, 99);
	assert_int_equal(v.v[0], 1);
	assert_int_equal(v.v[98], 99);
	assert_int_equal(vec_reserve(&v, SIZE_MAX), -ENOMEM);
	assert_int_equal(v.n, 99);
	vec_done(&v);
	vec_done(&v);
}

static void maps(void **state)
{
	enum { N = 5000 };
	struct item *items = calloc(N, sizeof(*items));
	struct hmap m;
	size_t seen = 0;

	assert_int_equal(hmap_init(&m), 0);
	for (uint64_t i = 0; i < N; i++) {
		items[i].key = i;
		hmap_add(&m, &items[i].node, hash_u64(i));
	}
	for (uint64_t i = 0; i < N; i++) {
		struct item *found = NULL;

		hmap_for_each(n, &m, hash_u64(i)) {
			if (container_of(n, struct item, node)->key == i)
				found = container_of(n, struct item, node);
		}
		assert_ptr_equal(found, &items[i]);
	}
	for (struct hnode *n = hmap_walk(&m, NULL), *next; n; n = next) {
		next = hmap_walk(&m, n);
		seen++;
		if (container_of(n, struct item, node)->key % 2)
			hmap_remove(&m, n);
	}
	assert_int_equal(seen, N);
	assert_int_equal(m.n, N / 2);
	hmap_done(&m);
	hmap_done(&m);
	free(items);
}

static void hashes_depend_on_every_byte(void **state)
{
	char s[] = "0123456789abcdef!";
	uint64_t h = hash_str(s);

	for (size_t i = 0; i < sizeof(s) - 1; i++) {
		s[i] ^= 1;
		assert_true(hash_str(s) != h);
		s[i] ^= 1;
	}
	assert_true(hash_str(s) == h);
}

static void ranges(void **state)
{
	uint64_t u;

	assert_true(range_inside(0, 10, 10));
	assert_true(range_inside(10, 0, 10));
	assert_false(range_inside(10, 1, 10));
	assert_false(range_inside(UINT64_MAX, 2, 10));
	assert_false(range_inside(5, UINT64_MAX, 10));
	assert_true(range_overlaps(0, 2, 1, 1));
	assert_false(range_overlaps(0, 1, 1, 1));
	assert_false(range_overlaps(0, 0, 0, 1));
	assert_true(mul_of(UINT64_MAX, 2, &u));
	assert_false(add_of(1, 2, &u));
	assert_int_equal(u, 3);
	assert_int_equal(ALIGN_UP(4097, 4096), 8192);
	assert_int_equal(ilog2(4096), 12);
	assert_false(is_pow2(0));
}

static void seeds_repeat(void **state)
{
	struct prng a, b;

	prng_seed(&a, 42);
	prng_seed(&b, 42);
	for (int i = 0; i < 100; i++) {
		uint64_t x = prng_below(&a, 7);

		assert_true(x < 7);
		assert_true(x == prng_below(&b, 7));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists),  cmocka_unit_test(vectors),
		cmocka_unit_test(maps),	  cmocka_unit_test(hashes_depend_on_every_byte),
		cmocka_unit_test(ranges), cmocka_unit_test(seeds_repeat),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
