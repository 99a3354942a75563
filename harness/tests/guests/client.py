"""Two clients of one file system: what each sees of the other's changes, and when.

    0.0  holder makes a, b, gone, moved and a folder
    0.5  contender looks
    1.0  holder changes them, and looks
    2.0  contender looks: at what it knew, then opens b and looks again
    2.5  contender makes a folder of the name that it thinks is free
    5.0  contender looks
"""
import os
import sys
import time

begun = time.time()


def until(seconds):
    time.sleep(max(0, seconds - (time.time() - begun)))


def seen(name):
    try:
        status = os.stat(name)
    except FileNotFoundError:
        return f"{name}:-"
    # In half seconds since the begin, so that what a step costs does not show.
    return f"{name}:{int((status.st_mtime - begun) * 2) / 2}:{status.st_size}"


NAMES = ["a", "b", "gone", "moved", "new", "folder"]


def look(who, *names):
    print(who, *(seen(name) for name in names or NAMES), flush=True)


def make(name, text=""):
    with open(name, "w") as file:
        file.write(text)


def holder():
    for name in NAMES[:4]:
        make(name)
    os.mkdir("folder")
    until(1)
    os.utime("a")
    with open("b", "a") as file:
        file.write("more")
    os.unlink("gone")
    make("other", "other")
    os.rename("other", "moved")
    os.mkdir("new")
    make("folder/file")
    look("holder")
    until(6)


def contender():
    until(0.5)
    look("0.5")
    held, replaced = os.open("a", os.O_RDONLY), os.open("moved", os.O_RDONLY)
    until(2)
    look("2.0")
    print("access", os.access("gone", os.F_OK), os.access("new", os.F_OK), os.access("a", os.X_OK))
    print("held", int((os.fstat(held).st_mtime - begun) * 2) / 2)
    with open("b") as file:
        print("read", file.read())
    look("opened", "b")
    until(2.5)
    try:
        os.mkdir("new")
    except FileExistsError:
        look("exists", "new", "gone")
    os.utime("a", (begun, begun))
    look("own", "a")
    until(5)
    look("5.0")
    print("replaced", os.fstat(replaced).st_size)


holder() if sys.argv[1] == "holder" else contender()
