/* Every kind of wait of C: says how long each took, by the clock that it is about. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static long long ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static long long begun;
static void begin(void) { begun = ms(CLOCK_MONOTONIC); }
static void end(const char *name, int answer, int error)
{
    printf("%s %lld %d %s\n", name, ms(CLOCK_MONOTONIC) - begun, answer,
           answer < 0 || error ? strerrorname_np(error ? error : errno) : "-");
    fflush(stdout);
}

static struct timespec in(clockid_t clock, int seconds)
{
    struct timespec then;
    clock_gettime(clock, &then);
    then.tv_sec += seconds;
    return then;
}

static volatile sig_atomic_t rang;
static void ring(int signal) { (void)signal; rang++; }

static void *sleeper(void *arg) { (void)arg; sleep(7); return NULL; }

int main(void)
{
    struct timespec t = { 3, 0 }, then, rest = { 0, 0 };
    begin(); end("nanosleep", nanosleep(&t, NULL), 0);
    begin(); then = in(CLOCK_REALTIME, 4);
    end("absolute", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &then, NULL), 0);
    begin(); end("usleep", usleep(250000), 0);
    begin(); end("poll", poll(NULL, 0, 1500), 0);
    begin(); end("ppoll", ppoll(NULL, 0, &t, NULL), 0);
    int ends[2];
    if (pipe(ends)) return 1;
    fd_set set; FD_ZERO(&set); FD_SET(ends[0], &set);
    struct timeval limit = { 2, 0 };
    begin(); end("select", select(ends[0] + 1, &set, NULL, NULL, &limit), 0);
    printf("select-set %d %d -\n", 0, FD_ISSET(ends[0], &set));
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    begin(); end("epoll", epoll_wait(epoll, &event, 1, 1200), 0);

    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&mutex);
    begin(); then = in(CLOCK_REALTIME, 5);
    int error = pthread_cond_timedwait(&cond, &mutex, &then);
    end("cond", 0, error);
    pthread_mutex_unlock(&mutex);
    sem_t sem; sem_init(&sem, 0, 0);
    begin(); then = in(CLOCK_REALTIME, 6);
    end("sem", sem_timedwait(&sem, &then), 0);

    sigset_t signals; sigemptyset(&signals); sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    begin(); end("sigtimedwait", sigtimedwait(&signals, NULL, &t), 0);

    signal(SIGALRM, ring);
    begin(); alarm(2); end("alarm-pause", pause(), 0);
    begin(); alarm(2); t.tv_sec = 10; end("alarm-sleep", nanosleep(&t, &rest), 0);
    printf("rest %lld 0 -\n", (long long)rest.tv_sec * 1000);
    struct itimerval every = { { 1, 0 }, { 1, 0 } };
    rang = 0;
    begin(); setitimer(ITIMER_REAL, &every, NULL);
    while (rang < 3) pause();
    memset(&every, 0, sizeof every); setitimer(ITIMER_REAL, &every, NULL);
    end("itimer", 0, 0);

    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec when = { { 1, 0 }, { 3, 0 } }, left;
    uint64_t count = 0;
    timerfd_settime(timer, 0, &when, NULL);
    begin(); read(timer, &count, sizeof count); end("timerfd", (int)count, 0);
    timerfd_gettime(timer, &left);
    printf("timerfd-left %lld 0 -\n", (long long)left.it_value.tv_sec * 1000 + left.it_value.tv_nsec / 1000000);
    struct pollfd polled = { .fd = dup(timer), .events = POLLIN };
    begin(); end("timerfd-poll", poll(&polled, 1, -1), 0);
    begin(); sleep(4); read(timer, &count, sizeof count); end("timerfd-late", (int)count, 0);
    memset(&when, 0, sizeof when);
    clock_gettime(CLOCK_REALTIME, &when.it_value); when.it_value.tv_sec += 7;
    int real = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
    timerfd_settime(real, TFD_TIMER_ABSTIME, &when, NULL);
    int early = read(real, &count, sizeof count);
    printf("timerfd-early 0 %d %d\n", early, errno);
    event.events = EPOLLIN; epoll_ctl(epoll, EPOLL_CTL_ADD, real, &event);
    close(timer); close(polled.fd);
    begin(); end("timerfd-epoll", epoll_wait(epoll, &event, 1, -1), 0);

    pthread_t thread;
    begin(); pthread_create(&thread, NULL, sleeper, NULL); pthread_join(thread, NULL);
    end("thread", 0, 0);
    begin(); while (ms(CLOCK_MONOTONIC) - begun < 2000) ; end("busy", 0, 0);

    struct stat st;
    int fd = open("stamp", O_CREAT | O_RDWR, 0644);
    fstat(fd, &st);
    begin(); sleep(9);
    futimens(fd, NULL);
    long long was = st.st_mtim.tv_sec;
    fstat(fd, &st);
    end("mtime", (int)(st.st_mtim.tv_sec - was), 0);
    printf("now %lld 0 -\n", (long long)(time(NULL) - st.st_mtim.tv_sec) * 1000);
    return 0;
}
