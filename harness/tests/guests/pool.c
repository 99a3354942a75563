/* Four threads refresh one file at once, with random temporary names beside it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static void *work(void *name)
{
    utimensat(AT_FDCWD, "beat", NULL, 0);
    mkdir(name, 0755);
    usleep(1000);
    rmdir(name);
    return name;
}

static void draw(char *name, size_t length)
{
    uint64_t random = 0;
    const uint64_t *seed = (const uint64_t *)getauxval(AT_RANDOM);
    if (getrandom(&random, sizeof random, 0) < 0) return;
    snprintf(name, length, "tmp-%llx-%llx-%d", (unsigned long long)random,
             (unsigned long long)*seed, (int)getpid());
}

int main(void)
{
    close(open("beat", O_CREAT | O_WRONLY, 0644));
    for (int round = 0; round < 3; round++) {
        pthread_t threads[4];
        char names[4][80];
        for (int i = 0; i < 4; i++) draw(names[i], sizeof names[i]);
        for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, names[i]);
        for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
        sleep(1);
    }
    puts("over");
    return 0;
}
