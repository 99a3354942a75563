// Timers, file times and the busy loop of node: says how long each took.
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
let begun;
const begin = () => { begun = performance.now(); };
const end = (name, answer = 0) => console.log(`${name} ${Math.round(performance.now() - begun)} ${answer} -`);
begin(); await sleep(3000); end('sleep');
begin(); await Promise.all([sleep(500), sleep(4000), fs.promises.stat('/')]); end('parallel');
begin();
let ticks = 0;
await new Promise((done) => { const t = setInterval(() => { if (++ticks === 20) { clearInterval(t); done(); } }, 1000); });
end('interval', ticks);
begin(); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500); end('atomics');
fs.writeFileSync('stamp', '');
begin(); await sleep(10000); end('mtime', Math.round((Date.now() - fs.statSync('stamp').mtimeMs) / 100));
begin(); const t = Date.now(); while (Date.now() - t < 1000); end('busy');
