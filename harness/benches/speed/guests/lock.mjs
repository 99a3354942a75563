// The tiny lock of bench.c.
import fs from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
const say = (line) => fs.appendFile(process.env.DEADBEAT_WITNESS, line);
process.chdir(process.env.DEADBEAT_DIR);
while (await fs.mkdir('lock').then(() => false, () => true)) await sleep(1000);
await say('entered\n');
for (let beat = 0; beat < 8; beat++) {
  await sleep(2500);
  await fs.utimes('lock', new Date(), new Date());
}
await say('left\n');
await fs.rmdir('lock');
await say('released\n');
