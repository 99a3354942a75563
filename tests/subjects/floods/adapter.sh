# Prints as fast as it can, on both streams, and never takes the lock.
yes "an endless line" >&2 &
exec yes "an endless line"
