"""Makes three threads; tells of each what it raised, and whether it ran."""
import threading

for _ in range(3):
    ran = []
    thread = threading.Thread(target=ran.append, args=[1])
    try:
        thread.start()
        thread.join()
        print("-", len(ran))
    except RuntimeError as error:
        print(error, len(ran))
