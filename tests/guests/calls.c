/* One call of each kind on the file that is named, and what each one answered. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#define TRY(call)                                                              \
  do {                                                                         \
    errno = 0;                                                                 \
    long answer = (call);                                                      \
    printf("%s = %ld %s\n", #call, answer, answer < 0 ? strerror(errno) : ""); \
  } while (0)

int main(int argc, char **argv) {
  const char *file = argc > 1 ? argv[1] : "file";
  struct stat stat_of;
  char bytes[8];
  int fd;
  TRY((fd = open(file, O_RDWR)) < 0 ? -1 : 0);
  if (fd < 0) fd = open(file, O_RDWR);
  TRY(write(fd, "abc", 3));
  TRY(utimensat(AT_FDCWD, file, 0, 0));
  TRY(futimens(fd, 0));
  TRY(utime(file, 0));
  TRY(utimes(file, 0));
  TRY(fsync(fd));
  TRY(stat(file, &stat_of));
  TRY(lseek(fd, 0, SEEK_SET));
  TRY(read(fd, bytes, 3));
  TRY(flock(fd, LOCK_EX));
  TRY(chmod(file, 0644));
  TRY(ftruncate(fd, 1));
  TRY(link(file, "second"));
  TRY(rename("second", "third"));
  TRY(unlink("third"));
  TRY(mkdir("folder", 0755));
  TRY(rmdir("folder"));
  TRY(symlink("nowhere", "link"));
  TRY(unlink("link"));
  TRY(close(fd));
  return 0;
}
