/* timerfd on each clock: relative, absolute, interval, read and polled. */
#include "clocks.h"
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

int main(void)
{
    const struct { clockid_t clock; const char *name; } clocks[] = {
        { CLOCK_REALTIME, "real" }, { CLOCK_MONOTONIC, "mono" }, { CLOCK_BOOTTIME, "boot" },
    };
    for (int i = 0; i < 3; i++) {
        char name[64];
        uint64_t rings = 0;
        int fd = timerfd_create(clocks[i].clock, TFD_CLOEXEC);
        struct itimerspec once = { { 0, 0 }, ms(1500) }, every = { ms(500), ms(500) };
        begin(); timerfd_settime(fd, 0, &once, NULL);
        int error = read(fd, &rings, sizeof rings) < 0 ? errno : 0;
        snprintf(name, sizeof name, "timerfd/%s", clocks[i].name); end(name, 1500, error);
        begin(); once.it_value = in_ms(clocks[i].clock, 1800);
        timerfd_settime(fd, TFD_TIMER_ABSTIME, &once, NULL);
        error = read(fd, &rings, sizeof rings) < 0 ? errno : 0;
        snprintf(name, sizeof name, "timerfd/absolute/%s", clocks[i].name); end(name, 1800, error);
        begin(); timerfd_settime(fd, 0, &every, NULL);
        for (int ring = 0; ring < 4; ring += (int)rings) if (read(fd, &rings, sizeof rings) < 0) { error = errno; break; }
        snprintf(name, sizeof name, "timerfd/interval/%s", clocks[i].name); end(name, 2000, error);
        struct pollfd poller = { .fd = fd, .events = POLLIN };
        once.it_value = ms(1200);
        begin(); timerfd_settime(fd, 0, &once, NULL);
        error = poll(&poller, 1, 60000) != 1 ? EIO : 0;
        snprintf(name, sizeof name, "timerfd/poll/%s", clocks[i].name); end(name, 1200, error);
        struct epoll_event event = { .events = EPOLLIN };
        int epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        once.it_value = ms(1300);
        begin(); timerfd_settime(fd, 0, &once, NULL);
        error = epoll_wait(epoll, &event, 1, -1) != 1 ? EIO : 0;
        snprintf(name, sizeof name, "timerfd/epoll/%s", clocks[i].name); end(name, 1300, error);
        close(epoll); close(fd);
    }
    puts("done");
    return 0;
}
