/* Sleeps that somebody else ends early, while whoever does so sleeps on: says how long each took. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long begun;
static long long ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}
static void begin(void) { begun = ms(); }
static void end(const char *name, int answer)
{
    printf("%s %lld %d %s\n", name, ms() - begun, answer, answer < 0 ? strerrorname_np(errno) : "-");
    fflush(stdout);
}

static void heard(int signal) { (void)signal; }

static pthread_t first;
static sem_t *sem;

static void *signals(void *arg) { (void)arg; sleep(2); pthread_kill(first, SIGUSR1); sleep(9); return NULL; }
static void *posts(void *arg) { (void)arg; sleep(3); sem_post(sem); sleep(9); return NULL; }

/* Does something in another process after so many seconds, which then sleeps on. */
static pid_t beside(int seconds, int what)
{
    pid_t parent = getpid(), child = fork();
    if (child) return child;
    sleep(seconds);
    if (what == 0) kill(parent, SIGUSR1);
    if (what == 1) sem_post(sem);
    if (what == 2) _exit(0);
    sleep(9);
    _exit(0);
}

static struct timespec in(int seconds)
{
    struct timespec then;
    clock_gettime(CLOCK_REALTIME, &then);
    then.tv_sec += seconds;
    return then;
}

int main(void)
{
    struct timespec t = { 30, 0 }, then;
    pthread_t thread;
    struct sigaction hears = { .sa_handler = heard };
    sigaction(SIGUSR1, &hears, NULL);
    sigaction(SIGCHLD, &hears, NULL);
    first = pthread_self();
    sem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    /* The kernel is asked about each sleep before it is ended. */
    begin(); pid_t child = beside(1, 0);
    end("kill", nanosleep(&t, NULL)); kill(child, SIGKILL); waitpid(child, NULL, 0);
    begin(); pthread_create(&thread, NULL, signals, NULL);
    end("pthread-kill", nanosleep(&t, NULL)); pthread_join(thread, NULL);
    sem_init(sem, 0, 0);
    begin(); pthread_create(&thread, NULL, posts, NULL);
    then = in(30); end("post", sem_timedwait(sem, &then)); pthread_join(thread, NULL);
    sem_init(sem, 1, 0);
    begin(); child = beside(4, 1);
    then = in(30); end("post-shared", sem_timedwait(sem, &then)); kill(child, SIGKILL); waitpid(child, NULL, 0);
    begin(); child = beside(5, 2);
    end("child", nanosleep(&t, NULL)); waitpid(child, NULL, 0);
    return 0;
}
