# Waits of a shell and of the programs that it runs, by the wall clock, which is what it has.
now() { date +%s%3N; }
wait_for() {
    name=$1 wanted=$2; shift 2
    begun=$(now); "$@"; took=$(($(now) - begun))
    echo "$name $wanted $took $took $took $took agree -"
}
child() { sleep 4 & wait; }
wait_for sleep 3000 sleep 3
wait_for sleep/fraction 250 sleep 0.25
wait_for timeout 2000 timeout 2 sleep 1000
wait_for child 4000 child
: > stamp; sleep 10; touch later
took=$((($(stat -c %Y later) - $(stat -c %Y stamp)) * 1000))
echo "file-times 10000 $took $took $took $took agree -"
echo done
