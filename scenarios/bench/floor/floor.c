// What the machine can do without any of our code: the benchmarks compile and run this.
//
//	floor futex N           round trip / 2 of two processes that sleep on futexes
//	floor spin N            the same, of two that look at one cache line all the time
//	floor paced N US        one way, one message every US microseconds, the receiver sleeps
//	floor memcpy SIZE N P   one copy of SIZE bytes into warm shared memory, to P places in turn
//	floor shared SIZE N     the same into one place, while a process on the other processor
//	                        reads every cache line of each copy before the next one is made
//
// Each prints N times in nanoseconds, one per line.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int report(const int64_t *v, long n) {
	for (long i = 0; i < n; i++)
		printf("%lld\n", (long long)v[i]);
	return fflush(stdout) == 0 ? 0 : 1;
}

struct line {
	_Atomic uint32_t word;
	char pad[124];
};

static void wake(struct line *l) {
	atomic_store(&l->word, 1);
	syscall(SYS_futex, &l->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await(struct line *l) {
	while (atomic_exchange(&l->word, 0) == 0)
		syscall(SYS_futex, &l->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void *shared(size_t size) {
	int fd = memfd_create("", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
		perror("memfd");
		exit(1);
	}
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static void spin_set(struct line *l) { atomic_store(&l->word, 1); }

static void spin_await(struct line *l) {
	while (atomic_exchange_explicit(&l->word, 0, memory_order_acquire) == 0)
		while (atomic_load_explicit(&l->word, memory_order_relaxed) == 0)
			;
}

static int64_t *room(long n) {
	int64_t *v = n > 0 ? malloc(sizeof *v * (size_t)n) : NULL;
	if (v == NULL) {
		fprintf(stderr, "floor: no room for %ld values\n", n);
		exit(1);
	}
	return v;
}

static pid_t split(void) {
	pid_t child = fork();
	if (child < 0) {
		perror("fork");
		exit(1);
	}
	return child;
}

static int pingpong(long n, void set(struct line *), void get(struct line *)) {
	struct line *l = shared(4096);
	int64_t *v = room(n);
	pid_t child = split();
	if (child == 0) {
		for (long i = 0; i < n; i++) {
			get(&l[0]);
			set(&l[1]);
		}
		_exit(0);
	}
	for (long i = 0; i < n; i++) {
		int64_t t = now();
		set(&l[0]);
		get(&l[1]);
		v[i] = (now() - t) / 2;
	}
	waitpid(child, NULL, 0);
	return report(v, n);
}

static int paced(long n, long us) {
	struct line *l = shared(4096);
	int64_t *sent = shared(sizeof *sent * (size_t)n), *v = room(n);
	pid_t child = split();
	if (child == 0) {
		int64_t next = now();
		for (long i = 0; i < n; i++) {
			next += us * 1000;
			struct timespec t = {next / 1000000000, next % 1000000000};
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
			sent[i] = now();
			atomic_store(&l->word, (uint32_t)i + 1);
			syscall(SYS_futex, &l->word, FUTEX_WAKE, 1, NULL, NULL, 0);
		}
		_exit(0);
	}
	for (long i = 0; i < n; i++) {
		while (atomic_load(&l->word) == (uint32_t)i)
			syscall(SYS_futex, &l->word, FUTEX_WAIT, (uint32_t)i, NULL, NULL, 0);
		v[i] = now() - sent[i];
	}
	waitpid(child, NULL, 0);
	return report(v, n);
}

static int copy(size_t size, long n, long places) {
	char *all = shared(size * (size_t)places), *from = malloc(size);
	int64_t *v = room(n);
	if (from == NULL) {
		perror("malloc");
		return 1;
	}
	memset(from, 1, size);
	memset(all, 2, size * (size_t)places);
	for (long i = 0; i < n; i++) {
		char *to = all + size * (size_t)(i % places);
		int64_t t = now();
		memcpy(to, from, size);
		v[i] = now() - t;
		from[i % (long)size] = to[(i * 64) % (long)size];
	}
	return report(v, n);
}

static int copy_shared(size_t size, long n) {
	struct line *l = shared(4096);
	char *to = shared(size), *from = malloc(size);
	int64_t *v = room(n);
	if (from == NULL) {
		perror("malloc");
		return 1;
	}
	memset(from, 1, size);
	memset(to, 2, size);
	pid_t child = split();
	if (child == 0) {
		uint64_t sum = 0;
		for (long i = 0; i < n; i++) {
			await(&l[0]);
			for (size_t k = 0; k < size; k += 64)
				sum += *(volatile uint8_t *)(to + k);
			wake(&l[1]);
		}
		_exit(sum == 0);
	}
	for (long i = 0; i < n; i++) {
		int64_t t = now();
		memcpy(to, from, size);
		v[i] = now() - t;
		wake(&l[0]);
		await(&l[1]);
	}
	waitpid(child, NULL, 0);
	return report(v, n);
}

int main(int argc, char **argv) {
	const char *what = argc > 1 ? argv[1] : "";
	if (argc == 3 && strcmp(what, "futex") == 0)
		return pingpong(atol(argv[2]), wake, await);
	if (argc == 3 && strcmp(what, "spin") == 0)
		return pingpong(atol(argv[2]), spin_set, spin_await);
	if (argc == 4 && strcmp(what, "paced") == 0)
		return paced(atol(argv[2]), atol(argv[3]));
	if (argc == 5 && strcmp(what, "memcpy") == 0 && atol(argv[4]) > 0)
		return copy((size_t)atol(argv[2]), atol(argv[3]), atol(argv[4]));
	if (argc == 4 && strcmp(what, "shared") == 0)
		return copy_shared((size_t)atol(argv[2]), atol(argv[3]));
	fprintf(stderr, "usage: floor futex N | spin N | paced N US | memcpy SIZE N PLACES | shared SIZE N\n");
	return 2;
}
