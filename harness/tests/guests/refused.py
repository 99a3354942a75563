"""Calls that the engine refuses: io_uring, and passing descriptors of the lock folder."""
import array
import ctypes
import errno
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)


def answer(name, *arguments):
    value = libc.syscall(*arguments)
    print(name, value if value >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)


for _ in range(2):
    answer("io_uring_setup", 425, 8, ctypes.create_string_buffer(120))
answer("futex_waitv", 449, 0, 0, 0, 0, 0)

one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def passing(name, *files):
    try:
        socket.send_fds(one, [b"take"], [os.open(file, os.O_RDONLY) for file in files])
        _, fds, _, _ = socket.recv_fds(other, 10, 10)
        print(name, len(fds), flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)


open("lock", "w").close()
passing("outside", "/dev/null", "/etc/passwd")
passing("inside", "/dev/null", "lock")
passing("folder", ".")
one.sendmsg([b"plain"], [(socket.SOL_SOCKET, 2, array.array("i", [os.getpid(), os.getuid(), os.getgid()]))])
print("credentials", other.recv(10).decode())
