// Makes three workers, after a word to the witness; tells of each its error, and what it said.
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';

fs.appendFileSync(process.env.DEADBEAT_WITNESS, 'entered\n');
for (let i = 0; i < 3; i++) {
  let said = '-';
  const code = "require('node:worker_threads').parentPort.postMessage('ran')";
  const error = await new Promise((resolve) => {
    try {
      const worker = new Worker(code, { eval: true });
      worker.on('message', (text) => { said = text; });
      worker.on('error', (error) => resolve(error.code));
      worker.on('exit', () => resolve('-'));
    } catch (error) {
      resolve(error.code);
    }
  });
  console.log(error, said);
}
