/* fork, vfork, exec from a thread that is not the first, signals, stops, orphans. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *runner(void *self)
{
    char *argv[] = { self, "second", NULL };
    execv(self, argv);
    return NULL;
}

int main(int argc, char **argv)
{
    int status;
    if (argc > 1) {
        mkdir("second", 0755);
        puts("second program");
        return 7;
    }
    if (fork() == 0) { mkdir("forked", 0755); _exit(3); }
    wait(&status);
    printf("fork %d\n", WEXITSTATUS(status));
    if (vfork() == 0) { mkdir("vforked", 0755); _exit(4); }
    wait(&status);
    printf("vfork %d\n", WEXITSTATUS(status));
    pid_t child;
    char *args[] = { "mkdir", "spawned", NULL };
    posix_spawnp(&child, "mkdir", NULL, NULL, args, environ);
    waitpid(child, &status, 0);
    printf("spawn %d\n", WEXITSTATUS(status));
    child = fork();
    if (child == 0) { for (;;) sleep(1); }
    sleep(1);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("stopped %d\n", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    sleep(2);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    printf("continued %d\n", WIFCONTINUED(status) != 0);
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    printf("killed %d\n", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    if (fork() == 0) { if (fork() == 0) { sleep(5); mkdir("orphan", 0755); _exit(0); } _exit(0); }
    wait(&status);
    sleep(10);
    struct stat st;
    printf("orphan %d\n", stat("orphan", &st) == 0);
    fflush(stdout);
    pthread_t thread;
    for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, (void *(*)(void *))pause, NULL);
    pthread_create(&thread, NULL, runner, argv[0]);
    for (;;) pause();
}
