// Four threads of the pool refresh one file at once, with random temporary names beside it.
import fs from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
await fs.writeFile('beat', '');
let failed = 0;
for (let round = 0; round < 3; round++) {
  const touch = () => fs.utimes('beat', new Date(), new Date()).catch((error) => { failed++; return error.code; });
  await Promise.all([touch(), touch(), touch(), touch()]);
  const name = `tmp-${randomBytes(4).toString('hex')}-${Math.random().toString(36).slice(2)}-${process.pid}`;
  await Promise.all([fs.mkdir(name), fs.writeFile(`${name}.txt`, name), fs.stat('beat')]);
  await fs.rmdir(name);
  await sleep(1000);
}
console.log(`failed ${failed}, over`);
