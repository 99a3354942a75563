/* What the bench runs: `touch N`, `fail N` (each touch must), `start N PROGRAM…` one after the other, or a tiny lock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *line)
{
    int fd = open(getenv("DEADBEAT_WITNESS"), O_WRONLY | O_APPEND);
    if (write(fd, line, strlen(line)) < 0) perror("witness");
    close(fd);
}

static void rest(long ms)
{
    struct timespec length = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&length, NULL);
}

static void lock(void)
{
    while (mkdir("lock", 0777)) rest(1000);
    say("entered\n");
    for (int beat = 0; beat < 8; beat++) {
        rest(2500);
        utimensat(AT_FDCWD, "lock", NULL, 0);
    }
    say("left\n");
    rmdir("lock");
    say("released\n");
}

/* How many of so many failed. A file that is not there would be refused by the kernel itself. */
static int touch(int n)
{
    int failed = 0;
    close(open("beat", O_WRONLY | O_CREAT, 0666));
    for (int i = 0; i < n; i++) failed += utimensat(AT_FDCWD, "beat", NULL, 0) != 0;
    return failed;
}

int main(int count, char **words)
{
    const char *dir = getenv("DEADBEAT_DIR");
    if (dir && chdir(dir)) return 1;
    int n = count > 2 ? atoi(words[2]) : 0;
    if (count > 1 && !strcmp(words[1], "touch")) return touch(n) != 0;
    if (count > 1 && !strcmp(words[1], "fail")) return touch(n) != n;
    if (count > 1 && !strcmp(words[1], "lock")) lock();
    if (count > 1 && !strcmp(words[1], "start"))
        for (int i = 0; i < n; i++) {
            pid_t child;
            int status;
            if (posix_spawnp(&child, words[3], NULL, NULL, words + 3, environ)) return 1;
            waitpid(child, &status, 0);
            if (status) return 1;
        }
    return 0;
}
