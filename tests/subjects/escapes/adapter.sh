# Tries to take over the terminal of who reads the report.
title=$(printf '\033]0;owned\007\033[2J\033[31m')
printf '%s on stdout\n' "$title"
printf '%s on stderr\n' "$title" >&2
printf 'failed %s in the witness\n' "$title" >> "$DEADBEAT_WITNESS"
exit 1
