/* Every call that tells attributes, each made twice. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void show(const char *name, const struct stat *s)
{
    printf("%s: %lu %lu %o %lu %u %u %lu %ld %ld %ld %ld.%ld %ld.%ld %ld.%ld\n", name, s->st_dev,
           s->st_ino, s->st_mode, s->st_nlink, s->st_uid, s->st_gid, s->st_rdev, s->st_size,
           s->st_blksize, s->st_blocks, s->st_atim.tv_sec, s->st_atim.tv_nsec, s->st_mtim.tv_sec,
           s->st_mtim.tv_nsec, s->st_ctim.tv_sec, s->st_ctim.tv_nsec);
}

static void show_x(const struct statx *x)
{
    struct stat s = {
        .st_dev = makedev(x->stx_dev_major, x->stx_dev_minor),
        .st_ino = x->stx_ino,
        .st_mode = x->stx_mode,
        .st_nlink = x->stx_nlink,
        .st_uid = x->stx_uid,
        .st_gid = x->stx_gid,
        .st_rdev = makedev(x->stx_rdev_major, x->stx_rdev_minor),
        .st_size = (long)x->stx_size,
        .st_blksize = x->stx_blksize,
        .st_blocks = (long)x->stx_blocks,
        .st_atim = { x->stx_atime.tv_sec, x->stx_atime.tv_nsec },
        .st_mtim = { x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec },
        .st_ctim = { x->stx_ctime.tv_sec, x->stx_ctime.tv_nsec },
    };
    int whole = (x->stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS;
    show(whole && x->stx_btime.tv_sec ? "statx" : "statx-holes", &s);
}

int main(void)
{
    struct stat s;
    struct statx x;
    struct timespec times[2] = { { 1900000000, 123456789 }, { 1900000001, 987654321 } };
    int fd = open("file", O_CREAT | O_RDWR, 0640);
    if (write(fd, "1234567", 7) != 7 || link("file", "second") || futimens(fd, times))
        return 1;
    /* A call of another kind between two of one makes the client forget. */
    for (int i = 0; i < 2; i++)
        if (!syscall(SYS_stat, "file", &s))
            show("stat", &s);
    chmod("file", 0640);
    for (int i = 0; i < 2; i++)
        if (!syscall(SYS_lstat, "file", &s))
            show("lstat", &s);
    chmod("file", 0640);
    for (int i = 0; i < 2; i++)
        if (!syscall(SYS_fstat, fd, &s))
            show("fstat", &s);
    chmod("file", 0640);
    for (int i = 0; i < 2; i++)
        if (!syscall(SYS_newfstatat, AT_FDCWD, "file", &s, 0))
            show("newfstatat", &s);
    chmod("file", 0640);
    for (int i = 0; i < 2; i++)
        if (!statx(AT_FDCWD, "file", 0, STATX_ALL, &x))
            show_x(&x);
    return 0;
}
