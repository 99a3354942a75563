/* Every wait of C with a limit, on every clock that it can be told. */
#include "clocks.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { clockid_t clock; const char *name; } clocks[] = {
    { CLOCK_REALTIME, "real" }, { CLOCK_MONOTONIC, "mono" }, { CLOCK_BOOTTIME, "boot" },
};

static const char *named(const char *wait, const char *clock)
{
    static char name[64];
    snprintf(name, sizeof name, "%s/%s", wait, clock);
    return name;
}

static int failed(int answer) { return answer < 0 ? errno : 0; }

static void sleeps(void)
{
    struct timespec t = ms(3000);
    begin(); end("nanosleep", 3000, failed(nanosleep(&t, NULL)));
    begin(); end("sleep", 2000, (int)sleep(2));
    begin(); end("usleep", 250, failed(usleep(250000)));
    for (int i = 0; i < 3; i++) {
        t = ms(1500);
        begin();
        end(named("relative", clocks[i].name), 1500, clock_nanosleep(clocks[i].clock, 0, &t, NULL));
        begin(); t = in_ms(clocks[i].clock, 2500);
        end(named("absolute", clocks[i].name), 2500,
            clock_nanosleep(clocks[i].clock, TIMER_ABSTIME, &t, NULL));
    }
}

static void polls(void)
{
    int ends[2];
    if (pipe(ends)) return;
    struct pollfd fd = { .fd = ends[0], .events = POLLIN };
    struct timespec t = ms(1300);
    begin(); end("poll", 1500, failed(poll(&fd, 1, 1500)));
    begin(); end("poll/nothing", 700, failed(poll(NULL, 0, 700)));
    begin(); end("ppoll", 1300, failed(ppoll(&fd, 1, &t, NULL)));
    fd_set set; FD_ZERO(&set); FD_SET(ends[0], &set);
    struct timeval limit = { 2, 0 };
    begin(); end("select", 2000, failed(select(ends[0] + 1, &set, NULL, NULL, &limit)));
    FD_SET(ends[0], &set);
    begin(); end("pselect", 1300, failed(pselect(ends[0] + 1, &set, NULL, NULL, &t, NULL)));
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    begin(); end("epoll_wait", 1200, failed(epoll_wait(epoll, &event, 1, 1200)));
    begin(); end("epoll_pwait", 1100, failed(epoll_pwait(epoll, &event, 1, 1100, NULL)));
    begin();
    end("epoll_pwait2", 1300, failed((int)syscall(SYS_epoll_pwait2, epoll, &event, 1, &t, NULL, 8)));
}

static void futexes(void)
{
    static uint32_t word;
    struct timespec t = ms(1300);
    begin(); end("futex/relative", 1300, failed((int)syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0)));
    begin(); t = in_ms(CLOCK_MONOTONIC, 1400);
    end("futex/mono", 1400, failed((int)syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &t, NULL, ~0)));
    begin(); t = in_ms(CLOCK_REALTIME, 1500);
    end("futex/real", 1500, failed((int)syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &t, NULL, ~0)));

    sem_t sem; sem_init(&sem, 0, 0);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    pthread_mutex_lock(&mutex); pthread_mutex_lock(&held); pthread_rwlock_rdlock(&rwlock);
    begin(); t = in_ms(CLOCK_REALTIME, 1600); end("sem_timedwait", 1600, failed(sem_timedwait(&sem, &t)));
    begin(); t = in_ms(CLOCK_REALTIME, 1700); end("cond_timedwait", 1700, pthread_cond_timedwait(&cond, &mutex, &t));
    begin(); t = in_ms(CLOCK_REALTIME, 1800); end("mutex_timedlock", 1800, pthread_mutex_timedlock(&held, &t));
    begin(); t = in_ms(CLOCK_REALTIME, 1900); end("rwlock_timedwrlock", 1900, pthread_rwlock_timedwrlock(&rwlock, &t));
    for (int i = 0; i < 2; i++) {
        clockid_t clock = clocks[i].clock;
        begin(); t = in_ms(clock, 1100);
        end(named("sem_clockwait", clocks[i].name), 1100, failed(sem_clockwait(&sem, clock, &t)));
        begin(); t = in_ms(clock, 1200);
        end(named("cond_clockwait", clocks[i].name), 1200, pthread_cond_clockwait(&cond, &mutex, clock, &t));
    }
}

static volatile sig_atomic_t rang;
static void ring(int signal) { (void)signal; rang++; }

static void timers(void)
{
    sigset_t usr; sigemptyset(&usr); sigaddset(&usr, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr, NULL);
    struct timespec t = ms(2100);
    begin(); end("sigtimedwait", 2100, failed(sigtimedwait(&usr, NULL, &t)));
    signal(SIGALRM, ring);
    begin(); alarm(2); pause(); end("alarm", 2000, 0);
    struct itimerval every = { { 1, 0 }, { 1, 0 } }, never = { { 0, 0 }, { 0, 0 } };
    rang = 0; begin(); setitimer(ITIMER_REAL, &every, NULL);
    while (rang < 3) pause();
    setitimer(ITIMER_REAL, &never, NULL); end("setitimer", 3000, 0);
    for (int i = 0; i < 3; i++) {
        timer_t timer;
        struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
        struct itimerspec once = { { 0, 0 }, ms(1700) }, again = { ms(500), ms(500) };
        timer_create(clocks[i].clock, &event, &timer);
        rang = 0; begin(); timer_settime(timer, 0, &once, NULL);
        while (rang < 1) pause();
        end(named("timer", clocks[i].name), 1700, 0);
        rang = 0; begin(); once.it_value = in_ms(clocks[i].clock, 1800);
        timer_settime(timer, TIMER_ABSTIME, &once, NULL);
        while (rang < 1) pause();
        end(named("timer/absolute", clocks[i].name), 1800, 0);
        rang = 0; begin(); timer_settime(timer, 0, &again, NULL);
        while (rang < 4) pause();
        timer_delete(timer);
        end(named("timer/interval", clocks[i].name), 2000, 0);
    }
}

static void *sleeper(void *arg) { sleep(7); return arg; }

int main(void)
{
    sleeps();
    polls();
    futexes();
    timers();
    pthread_t thread;
    begin(); pthread_create(&thread, NULL, sleeper, NULL); pthread_join(thread, NULL);
    end("thread", 7000, 0);
    begin(); while (nanos(CLOCK_MONOTONIC) - mono_0 < 2000000000LL) ;
    /* A thread that only reads the clock makes time pass: a sleep makes it a wait like others. */
    usleep(1); end("busy", 2000, 0);
    puts("done");
    return 0;
}
