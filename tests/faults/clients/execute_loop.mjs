// Keeps eight Executes in flight until the broker refuses one:
// execute_loop.mjs ADDRESS, with a call in each line of the standard input, its
// number and its request in base64. A line of the output for each call that
// ended: its number, its code and its answer in base64.
import fs from 'node:fs';
import grpc from '@grpc/grpc-js';

const client = new grpc.Client(process.argv[2],
                               grpc.credentials.createInsecure());
const bytes = (message) => message;
const calls = fs.readFileSync(0, 'utf8').trim().split('\n');
let next = 0;
let running = 0;
let refused = false;

function call() {
  if (refused || next === calls.length) {
    if (running === 0) client.close();
    return;
  }
  const [number, request] = calls[next++].split(' ');
  running++;
  client.makeUnaryRequest(
      '/hotline.v1.Broker/Execute', bytes, bytes,
      Buffer.from(request, 'base64'), {deadline: Date.now() + 30000},
      (error, answer) => {
        running--;
        refused ||= error?.code === grpc.status.UNAVAILABLE;
        const text = error ? '' : answer.toString('base64');
        console.log(`${number} ${error?.code ?? 0} ${text}`);
        call();
      });
}

for (let i = 0; i < 8; i++) call();
