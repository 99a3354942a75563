/* A loop of one operation: argv[1] times utimensat on "beat". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long times = argc > 1 ? atol(argv[1]) : 0, failed = 0;
    close(open("beat", O_CREAT | O_WRONLY, 0644));
    for (long i = 0; i < times; i++) failed += utimensat(AT_FDCWD, "beat", NULL, 0) < 0;
    printf("failed %ld\n", failed);
    return 0;
}
