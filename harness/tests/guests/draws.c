/* Four threads draw random numbers at once, and show them as names of folders. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_barrier_t together;

static void *work(void *thread)
{
    pthread_barrier_wait(&together);
    for (int i = 0; i < 5; i++) {
        /* As long as the cycle counter says, which no virtual clock hides: any thread may be the
           first to draw. */
        for (volatile unsigned long long n = __builtin_ia32_rdtsc() % 10000000; n > 0; n--) { }
        uint64_t random = 0;
        char name[80];
        if (getrandom(&random, sizeof random, 0) < 0) break;
        snprintf(name, sizeof name, "tmp-%llx-%s-%d", (unsigned long long)random,
                 (const char *)thread, (int)getpid());
        mkdir(name, 0755);
        rmdir(name);
    }
    return thread;
}

int main(void)
{
    static char *names[] = { "a", "b", "c", "d" };
    pthread_t threads[4];
    pthread_barrier_init(&together, NULL, 4);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, names[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    puts("over");
    return 0;
}
