# Four processes refresh one file at once, with random temporary names beside it.
: > beat
for round in 1 2 3; do
    for child in 1 2 3 4; do
        { touch beat; name=$(mktemp -d tmp-XXXXXXXX-$$); sleep 0.01; rmdir "$name"; } &
    done
    wait
    sleep 1
done
echo over
