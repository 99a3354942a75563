#!/bin/sh
# Runs pjdfstest on the file system over a tmpfs. Run as root, from the top of the repository, in a
# mount namespace of its own: `unshare --mount --propagation private sh fuse-fs/tests/pjdfstest.sh`.
# PJDFSTEST names the program, where it is neither in target/ci-tools nor in PATH; PASSTHROUGH the
# file system, which is built otherwise.
set -eu
pjdfstest=${PJDFSTEST:-pjdfstest}
if [ -z "${PJDFSTEST:-}" ] && [ -x target/ci-tools/bin/pjdfstest ]; then
    pjdfstest=target/ci-tools/bin/pjdfstest
fi
if [ -z "${PASSTHROUGH:-}" ]; then
    cargo build --quiet --release -p deadbeat-fs --example passthrough
fi
passthrough=${PASSTHROUGH:-${CARGO_TARGET_DIR:-target}/release/examples/passthrough}
here=$(dirname "$0")
top=$(mktemp -d)
daemon=
clean_up() {
    cd /
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    umount -l "$top/mount" 2>/dev/null || true
    umount -l "$top" 2>/dev/null || true
    rmdir "$top"
}
trap clean_up EXIT
mount -t tmpfs -o mode=755 tmpfs "$top"
mkdir "$top/backing" "$top/mount" "$top/second"
mount -t tmpfs -o mode=755 tmpfs "$top/second"
"$passthrough" "$top/backing" "$top/mount" &
daemon=$!
tries=0
until grep -q "$top/mount fuse.deadbeat" /proc/self/mounts; do
    tries=$((tries + 1))
    [ "$tries" -lt 500 ] || { echo "the mount did not appear" >&2; exit 1; }
    sleep 0.02
done
"$pjdfstest" -c "$here/pjdfstest.toml" -p "$top/mount" -s "$top/second"
