/* What every clock shows, before and after a wait: NAME WANTED REAL MONO BOOT DAY AGREE ANSWER. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

typedef long long ns;

static ns nanos(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static ns day(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return (now.tv_sec * 1000000LL + now.tv_usec) * 1000;
}

static ns real_0, mono_0, boot_0, day_0;

static void begin(void)
{
    real_0 = nanos(CLOCK_REALTIME);
    mono_0 = nanos(CLOCK_MONOTONIC);
    boot_0 = nanos(CLOCK_BOOTTIME);
    day_0 = day();
}

/* The coarse clocks and time() must show what the fine ones do: they are cut, not late. */
static const char *agree(ns real, ns mono)
{
    if (time(NULL) != real / 1000000000) return "time";
    if (day() / 1000 != real / 1000) return "gettimeofday";
    if (nanos(CLOCK_REALTIME_COARSE) > nanos(CLOCK_REALTIME)) return "real-coarse";
    if (nanos(CLOCK_MONOTONIC_COARSE) + 20000000 < mono) return "mono-coarse";
    return "agree";
}

static void end(const char *name, int wanted_ms, int error)
{
    ns real = nanos(CLOCK_REALTIME), mono = nanos(CLOCK_MONOTONIC);
    printf("%s %d %lld %lld %lld %lld %s %s\n", name, wanted_ms, (real - real_0) / 1000000,
           (mono - mono_0) / 1000000, (nanos(CLOCK_BOOTTIME) - boot_0) / 1000000,
           (day() - day_0) / 1000000, agree(real, mono), error ? strerrorname_np(error) : "-");
    fflush(stdout);
}

/* So long from now on a clock. */
static struct timespec in_ms(clockid_t clock, int ms)
{
    ns then = nanos(clock) + ms * 1000000LL;
    return (struct timespec){ then / 1000000000, then % 1000000000 };
}

static struct timespec ms(int length)
{
    return (struct timespec){ length / 1000, length % 1000 * 1000000L };
}
