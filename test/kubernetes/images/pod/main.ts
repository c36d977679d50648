import { existsSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';

/**
 * What pods of the tests run. One file, without another of this clone: the image has it as `/app.mjs`. `server PORT`: greets
 * every connection with one line and echoes what it sends; answers HTTP on the next port. After SIGTERM it goes on for
 * LINGER_MS. `once HOST PORT`: prints the first line that a server sends, or the code of the error, and then ends with 1.
 * `say HOST PORT WORD`: sends `clear POD WORD` at once and ends with 0 when the server has sent it back. `load HOST PORT
 * MS`: opens a connection every 50 ms for that time, or until there is a file /tmp/end, then prints how many were greeted, how
 * long the slowest of these took, the longest time in which none was greeted, and all errors.
 */
const [mode = '', ...words] = process.argv.slice(2);

if (mode === 'server') serve(Number(words[0]));
else if (mode === 'once') connectOnce(words[0] ?? '', Number(words[1]));
else if (mode === 'say') say(words[0] ?? '', Number(words[1]), words[2] ?? '');
else if (mode === 'load') load(words[0] ?? '', Number(words[1]), Number(words[2]));
else fail(`unknown: ${mode}`);

function serve(port: number): void {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    const address = plain(socket.remoteAddress);
    socket.write(`${JSON.stringify({ host: os.hostname(), sees: address })}\n`);
    socket.pipe(socket);
    log({ accepted: address });
  });
  const web = http.createServer((request, response) => {
    log({ path: request.url, from: plain(request.socket.remoteAddress) });
    response.end('ok\n');
  });
  server.listen(port, '::', () => web.listen(port + 1, '::', () => log({ listening: port })));
  process.on('SIGTERM', () => {
    log({ ending: true });
    setTimeout(() => process.exit(0), Number(process.env['LINGER_MS'] ?? 0));
  });
}

function connectOnce(host: string, port: number): void {
  const socket = net.connect({ host, port });
  let text = '';
  socket.setTimeout(10_000, () => fail('timeout'));
  socket.on('data', (data) => {
    text += data.toString('utf8');
    const [line, rest] = text.split('\n');
    if (rest === undefined) return;
    console.log(line);
    process.exit(0);
  });
  socket.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
  socket.on('close', () => fail('closed'));
}

function say(host: string, port: number, word: string): void {
  const text = `clear ${os.hostname()} ${word}`;
  const socket = net.connect({ host, port });
  let heard = '';
  socket.setTimeout(30_000, () => fail('timeout'));
  socket.write(text);
  socket.on('data', (data) => {
    heard += data.toString('utf8');
    if (heard.endsWith(text)) process.exit(0);
  });
  socket.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
  socket.on('close', () => fail('closed'));
}

function load(host: string, port: number, lengthMs: number): void {
  const errors: string[] = [];
  let greeted = 0;
  let begun = 0;
  let longestMs = 0;
  let lastGreetedAtMs = performance.now();
  let gapMs = 0;
  const begin = (): void => {
    const atMs = begun++ * 50;
    const startedAtMs = performance.now();
    const socket = net.connect({ host, port });
    let isOver = false;
    const end = (error: string | null): void => {
      if (isOver) return;
      isOver = true;
      socket.destroy();
      if (error === null) {
        const nowMs = performance.now();
        greeted++;
        longestMs = Math.max(longestMs, Math.round(nowMs - startedAtMs));
        gapMs = Math.max(gapMs, Math.round(nowMs - lastGreetedAtMs));
        lastGreetedAtMs = nowMs;
      } else errors.push(`${error} after ${atMs} ms`);
    };
    socket.setTimeout(10_000, () => end('timeout'));
    socket.on('data', () => end(null));
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
    socket.on('close', () => end('closed'));
  };
  const startedAtMs = performance.now();
  const timer = setInterval(() => {
    if (performance.now() - startedAtMs < lengthMs && !existsSync('/tmp/end')) return begin();
    clearInterval(timer);
    const endedAtMs = performance.now();
    const report = setInterval(() => {
      if (greeted + errors.length < begun) return;
      clearInterval(report);
      gapMs = Math.max(gapMs, Math.round(endedAtMs - lastGreetedAtMs));
      console.log(JSON.stringify({ begun, greeted, longestMs, gapMs, errors }));
    }, 50);
  }, 50);
}

/** An IPv4 address also where the socket is one of IPv6. */
function plain(address = ''): string {
  return address.replace(/^::ffff:/, '');
}

function log(entry: object): void {
  console.log(JSON.stringify(entry));
}

function fail(why: string): never {
  console.log(why);
  process.exit(1);
}
