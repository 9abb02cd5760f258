// One job a row with BullMQ over Redis, 64 at once: node bullmq.mjs SOCKET URL ROWS. Prints the seconds and the
// number of answers.
import { Queue, Worker } from 'bullmq';
import { Agent, request } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';

const [socket, url, path] = process.argv.slice(2);
const connection = { path: socket, maxRetriesPerRequest: null };
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const system = 'You are a sentiment analyzer. Always respond with valid JSON.';
const ask = 'Analyze sentiment. Return JSON: {"sentiment": "<positive|negative|neutral>"}\n\n';

function call(row) {
    const body = JSON.stringify({ model: 'gpt-5.4-mini', messages: [
        { role: 'system', content: system }, { role: 'user', content: ask + row.text }] });
    return new Promise((resolve, reject) => {
        const r = request(url, { method: 'POST', agent, headers: {
            Authorization: 'Bearer k', 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) } }, (reply) => {
            let text = '';
            reply.on('data', (chunk) => { text += chunk; });
            reply.on('end', () => resolve({ ...row, answer: JSON.parse(text).choices[0].message.content }));
        });
        r.on('error', reject);
        r.end(body);
    });
}

const rows = readFileSync(path, 'utf8').split('\n').filter((line) => line).map((line) => JSON.parse(line));
const queue = new Queue('rows', { connection });
await queue.obliterate({ force: true });
const answers = [];
const begin = process.hrtime.bigint();
const worker = new Worker('rows', async (job) => call(job.data), { connection, concurrency: 64 });
const done = new Promise((resolve, reject) => {
    worker.on('completed', (job, answer) => {
        answers.push(answer);
        if (answers.length === rows.length) resolve();
    });
    worker.on('failed', (job, why) => reject(why));
});
for (let i = 0; i < rows.length; i += 1000) {
    await queue.addBulk(rows.slice(i, i + 1000).map((data) => ({ name: 'row', data, opts: { removeOnComplete: true } })));
}
await done;
writeFileSync('bullmq-out.jsonl', answers.map((row) => JSON.stringify(row) + '\n').join(''));
const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
await worker.close();
await queue.close();
agent.destroy();
console.log(seconds, answers.length);
