// One process that wants a proper-lockfile lock, as the environment says; see CONTRACTS.
//
// It does what the library's README tells its users to do: the default `onCompromised` throws,
// which ends the process; ON_LOSS=log is the handler that many write instead. It prints only the
// error that the library hands to that handler.
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import lockfile from "proper-lockfile";

const { DEADBEAT_LOCK: lockfilePath, DEADBEAT_WITNESS: witness, ON_LOSS: onLoss } = process.env;
const number = (name) => Number(process.env[name] ?? 0);
const POLL_MS = 50;

// One write(2) a line, on a descriptor opened for append.
const say = (line) => fs.appendFileSync(witness, `${line}\n`);

function onCompromised(error) {
  say(`lost reason=${JSON.stringify(String(error.message))}`);
  if (onLoss === "log") {
    console.error(error);
    return;
  }
  say("aborted");
  throw error;
}

async function acquire() {
  const deadline = performance.now() + number("DEADBEAT_PATIENCE_MS");
  const options = {
    lockfilePath,
    realpath: false,
    stale: number("DEADBEAT_STALE_MS"),
    update: number("DEADBEAT_BEAT_MS"),
    onCompromised,
  };
  for (;;) {
    try {
      return await lockfile.lock(lockfilePath.replace(/\.lock$/, ""), options);
    } catch (error) {
      // The library's own `retries` would try again after any error, so this does too.
      if (performance.now() >= deadline) {
        if (error.code === "ELOCKED") return null;
        throw error;
      }
      await sleep(POLL_MS);
    }
  }
}

async function work() {
  const end = performance.now() + number("DEADBEAT_HOLD_MS");
  const stalled = performance.now() + number("DEADBEAT_STALL_MS");
  while (performance.now() < stalled); // A busy event loop: no beat can run.
  while (performance.now() < end) {
    say("wrote");
    await sleep(Math.min(number("DEADBEAT_TICK_MS"), end - performance.now()));
  }
}

for (let n = 0; n < (number("DEADBEAT_ACQUIRES") || 1); n += 1) {
  let release;
  try {
    release = await acquire();
  } catch (error) {
    say(`failed ${String(error.message).replaceAll("\n", " ")}`);
    process.exit(1);
  }
  if (release === null) {
    say("gave-up");
    break;
  }
  say("entered");
  await work();
  say("left");
  try {
    await release();
    say("released");
  } catch (error) {
    say(`release-failed reason=${JSON.stringify(String(error.message))}`);
  }
}
