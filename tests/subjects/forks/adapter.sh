# Starts processes that stay, as long as it is let.
while :; do
    sleep 1000 &
done
