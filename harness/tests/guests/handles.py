"""Operations on open files whose names others, or the process itself, have taken."""
import errno
import os
import time


def tell(name, what):
    try:
        what()
        print(name, "ok", flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)


def opened(name):
    return os.open(name, os.O_RDWR | os.O_CREAT, 0o644)


theirs, own, linked, replaced = (opened(name) for name in ["theirs", "own", "linked", "replaced"])
os.mkdir("folder")
folder = os.open("folder", os.O_RDONLY)
time.sleep(2)
os.unlink("own")
os.utime(linked)
for name, what in [
    ("utimes", lambda: os.utime(theirs)),
    ("write", lambda: os.write(theirs, b"x")),
    ("read", lambda: os.read(theirs, 1)),
    ("stat", lambda: os.fstat(theirs)),
    ("fsync", lambda: os.fsync(theirs)),
    ("truncate", lambda: os.ftruncate(theirs, 0)),
    ("close", lambda: os.close(theirs)),
    ("path", lambda: os.utime("theirs")),
    ("replaced", lambda: os.utime(replaced)),
    ("replaced-path", lambda: os.utime("replaced")),
    ("folder", lambda: os.utime(folder)),
    ("folder-close", lambda: os.close(folder)),
    ("own", lambda: os.utime(own)),
    ("linked", lambda: os.utime(linked)),
]:
    tell(name, what)
