# Enters, and stays for ever, whoever asks it to end.
trap '' TERM INT HUP
[ "$DEADBEAT_ROLE" = holder ] && echo entered >> "$DEADBEAT_WITNESS"
while :; do
    sleep 1000
done
