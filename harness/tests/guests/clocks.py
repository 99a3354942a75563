"""Waits of Python, and what its clocks show."""
import asyncio
import os
import queue
import select
import signal
import subprocess
import threading
import time

NAMES = [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME]


def show():
    return [time.clock_gettime_ns(clock) for clock in NAMES] + [time.time_ns()]


def wait(name, wanted_ms, what):
    before = show()
    what(wanted_ms / 1000)
    lengths = [(after - begun) // 1_000_000 for after, begun in zip(show(), before)]
    agree = "agree" if abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 0.001 else "time"
    print(name, wanted_ms, *lengths, agree, "-", flush=True)


def sigtimed(seconds):
    assert signal.sigtimedwait([signal.SIGUSR1], seconds) is None


def alarmed(seconds):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.pause()


def lined_up(seconds):
    try:
        queue.Queue().get(timeout=seconds)
    except queue.Empty:
        pass


def threaded(seconds):
    thread = threading.Thread(target=time.sleep, args=(seconds,))
    thread.start()
    thread.join()


def expired(seconds):
    try:
        subprocess.run(["/bin/sleep", "1000"], timeout=seconds, check=True)
    except subprocess.TimeoutExpired:
        pass


reader, writer = os.pipe()
poll = select.poll()
poll.register(reader, select.POLLIN)
wait("sleep", 3000, time.sleep)
wait("Event.wait", 4000, lambda s: threading.Event().wait(s))
wait("Lock.acquire", 1200, lambda s: (lambda lock: (lock.acquire(), lock.acquire(timeout=s)))(threading.Lock()))
wait("queue", 2500, lined_up)
wait("select", 2000, lambda s: select.select([reader], [], [], s))
wait("poll", 1700, lambda s: poll.poll(s * 1000))
wait("asyncio.sleep", 2200, lambda s: asyncio.run(asyncio.sleep(s)))
wait("sigtimedwait", 1400, sigtimed)
wait("setitimer", 1600, alarmed)
wait("thread", 6000, threaded)
wait("child", 60000, lambda s: subprocess.run(["/bin/sleep", str(s)], check=True))
wait("child/timeout", 5000, expired)
print("done")
