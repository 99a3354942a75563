"""Closes everything that it inherited, then does nothing more."""

import os
import time

os.closerange(0, 4096)
time.sleep(int(os.environ["DEADBEAT_HOLD_MS"]) / 1000)
