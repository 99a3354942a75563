# Four threads refresh one file at once, with random temporary names beside it.
import os
import random
import secrets
import threading
import time
import uuid

open("beat", "w").close()
for _ in range(3):
    threads = [threading.Thread(target=os.utime, args=("beat",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = f"tmp-{secrets.token_hex(4)}-{random.random()}-{uuid.uuid4()}-{os.getpid()}"
    os.mkdir(name)
    os.rmdir(name)
    time.sleep(1)
print("over")
