/* A POSIX timer that signals one thread of several, named by its id. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int right_thread;
static pid_t wanted;

static void handler(int signal)
{
    (void)signal;
    right_thread = gettid() == wanted;
}

static void *waiter(void *unused)
{
    struct timespec before, after;
    struct sigevent event;
    timer_t timer;
    struct itimerspec once = { .it_value = { .tv_sec = 3 } };
    (void)unused;
    wanted = gettid();
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event.sigev_notify_thread_id = wanted;
    clock_gettime(CLOCK_MONOTONIC, &before);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &once, NULL)) {
        puts("named-thread 0 -1 refused");
        return NULL;
    }
    pause();
    clock_gettime(CLOCK_MONOTONIC, &after);
    long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    printf("named-thread %ld %d -\n", ms, right_thread);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    signal(SIGUSR1, handler);
    pthread_create(&thread, NULL, waiter, NULL);
    pthread_join(thread, NULL);
    return 0;
}
