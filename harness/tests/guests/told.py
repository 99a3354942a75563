"""Every way to ask when this process, a child and the machine began: all agree with the clocks."""
import ctypes
import os
import sys
import threading
import time


def fields(path):
    with open(path) as file:
        return file.read().rpartition(")")[2].split()


def start(path):
    """Field 22, in seconds since the boot."""
    return int(fields(path)[22 - 3]) / os.sysconf("SC_CLK_TCK")


def boot():
    with open("/proc/stat") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("btime "))


def uptime():
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


def sysinfo():
    numbers = (ctypes.c_long * 64)()
    assert ctypes.CDLL(None).sysinfo(numbers) == 0
    return numbers[0]


def show(name, *values):
    print(name, *(round(value, 1) for value in values), flush=True)


begun = start("/proc/self/stat")
now = time.clock_gettime(time.CLOCK_BOOTTIME)
show("age", now - begun)
show("uptime", uptime() - now, sysinfo() - now)
show("boot", boot() - (time.time() - now))
ticks = os.times().elapsed
time.sleep(20)
show("later", start(f"/proc/{os.getpid()}/stat") - begun, uptime() - now)
show("ticks", os.times().elapsed - ticks)

ids = []


def body():
    ids.extend([threading.get_native_id(), start("/proc/thread-self/stat")])
    time.sleep(2)


thread = threading.Thread(target=body)
thread.start()
time.sleep(1)
show("thread", start(f"/proc/self/task/{ids[0]}/stat") - begun, ids[1] - begun)
thread.join()

child = os.fork()
if child == 0:
    time.sleep(5)
    os._exit(0)
time.sleep(1)
folder = os.open(f"/proc/{child}", os.O_RDONLY)
with open(os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)) as file:
    relative = int(file.read().rpartition(")")[2].split()[22 - 3]) / 100
show("child", relative - begun, relative - start(f"/proc/{child}/stat"))
os.waitpid(child, 0)
try:
    start(f"/proc/{child}/stat")
except FileNotFoundError:
    print("gone")
own = os.open("/proc/self", os.O_RDONLY)
for status in os.stat("/proc/self"), os.lstat(f"/proc/{os.getpid()}/fd"), os.stat("fd", dir_fd=own):
    show("stamps", *(stamp - boot() - begun for stamp in (status.st_atime, status.st_mtime, status.st_ctime)))
with open("/proc/self/stat") as file:
    os.lseek(file.fileno(), 3, os.SEEK_SET)
    print("inside", os.get_inheritable(file.fileno()), len(os.read(file.fileno(), 2)))
try:
    open("/proc/self/stat", "w").write("x")
except OSError as error:
    print("write", error.errno is not None)
sys.stdout.flush()
