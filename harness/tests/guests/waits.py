"""Waits of Python: says how long each took."""
import os
import queue
import select
import subprocess
import threading
import time

begun = 0.0


def begin():
    global begun
    begun = time.monotonic()


def end(name, answer=0):
    print(f"{name} {round((time.monotonic() - begun) * 1000)} {answer} -", flush=True)


begin(); time.sleep(3); end("sleep")
begin(); threading.Event().wait(4); end("event")
begin()
try:
    queue.Queue().get(timeout=5)
except queue.Empty:
    end("queue")
begin(); select.select([], [], [], 2); end("select")
begin(); t = threading.Thread(target=time.sleep, args=(6,)); t.start(); t.join(); end("thread")
begin(); subprocess.run(["/bin/sleep", "60"], check=True); end("child")
begin(); r, w = os.pipe(); p = select.poll(); p.register(r, select.POLLIN); p.poll(1500); end("poll")
open("stamp", "w").close()
time.sleep(8)
end("mtime", round(time.time() - os.stat("stamp").st_mtime))
