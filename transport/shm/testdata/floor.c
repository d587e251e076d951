// What the machine can do without any of our code: the benchmarks compile and run this.
//
//	floor futex N          round trip / 2 of two processes that sleep on futexes
//	floor memcpy SIZE N    one copy of SIZE bytes into the same warm shared memory
//
// Each prints the median in nanoseconds.
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

static int compare(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static int64_t median(int64_t *v, long n) {
	qsort(v, (size_t)n, sizeof *v, compare);
	return v[n / 2];
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

static int futex(long n) {
	struct line *l = shared(4096);
	int64_t *v = malloc(sizeof *v * (size_t)n);
	pid_t child = fork();
	if (child < 0 || v == NULL) {
		perror("fork");
		return 1;
	}
	if (child == 0) {
		for (long i = 0; i < n; i++) {
			await(&l[0]);
			wake(&l[1]);
		}
		_exit(0);
	}
	for (long i = 0; i < n; i++) {
		int64_t t = now();
		wake(&l[0]);
		await(&l[1]);
		v[i] = (now() - t) / 2;
	}
	waitpid(child, NULL, 0);
	printf("%lld\n", (long long)median(v, n));
	return 0;
}

static int copy(size_t size, long n) {
	char *to = shared(size), *from = malloc(size);
	int64_t *v = malloc(sizeof *v * (size_t)n);
	if (from == NULL || v == NULL) {
		perror("malloc");
		return 1;
	}
	memset(from, 1, size);
	memset(to, 2, size);
	for (long i = 0; i < n; i++) {
		int64_t t = now();
		memcpy(to, from, size);
		v[i] = now() - t;
		from[i % (long)size] = to[(i * 64) % (long)size];
	}
	printf("%lld\n", (long long)median(v, n));
	return 0;
}

int main(int argc, char **argv) {
	if (argc == 3 && strcmp(argv[1], "futex") == 0)
		return futex(atol(argv[2]));
	if (argc == 4 && strcmp(argv[1], "memcpy") == 0)
		return copy((size_t)atol(argv[2]), atol(argv[3]));
	fprintf(stderr, "usage: floor futex N | floor memcpy SIZE N\n");
	return 2;
}
