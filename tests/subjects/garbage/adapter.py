"""Writes to the witness whatever is no line of the protocol."""

import os

witness = os.open(os.environ["DEADBEAT_WITNESS"], os.O_WRONLY | os.O_APPEND)
for line in [
    b"\xff\xfe\x00garbage\n",
    b"entered token=minus-one\n",
    b"entered entered\n",
    b"x" * 100_000 + b"\n",
    b"no line break",
    b"\n\n\n",
]:
    try:
        os.write(witness, line)
    except OSError as error:
        print(error)
