// Waits of node, and what its clocks show.
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

const show = () => [Date.now(), performance.now(), Number(process.hrtime.bigint()) / 1e6, Date.now()];
const wait = async (name, wanted, what) => {
  const before = show();
  await what(wanted);
  const lengths = show().map((after, i) => Math.floor(after - before[i]));
  console.log(name, wanted, ...lengths, 'agree', '-');
};

await wait('setTimeout', 3000, (ms) => new Promise((done) => setTimeout(done, ms)));
await wait('setInterval', 20000, (ms) => new Promise((done) => {
  let ticks = 0;
  const timer = setInterval(() => { if (++ticks === 20) { clearInterval(timer); done(); } }, ms / 20);
}));
await wait('parallel', 4000, (ms) => Promise.all([sleep(500), sleep(ms), sleep(2500)]));
await wait('Atomics.wait', 2500, (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms));
await wait('AbortSignal', 1500, (ms) => new Promise((done) => { AbortSignal.timeout(ms).onabort = done; setTimeout(() => {}, ms + 1); }));
await wait('child', 5000, (ms) => { execFileSync('/bin/sleep', [String(ms / 1000)]); });
await wait('child/timeout', 2000, (ms) => { spawnSync('/bin/sleep', ['1000'], { timeout: ms }); });
// Date.now() shows whole milliseconds: less than `ms` may have passed when it has grown by `ms`.
await wait('busy', 1000, (ms) => { const begun = Date.now(); while (Date.now() - begun <= ms); });
console.log('done');
