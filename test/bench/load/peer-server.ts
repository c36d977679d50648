import net from 'node:net';
import process from 'node:process';

/**
 * `peer-server.js PORT…`: an application of the benchmark. The first byte of a connection selects its mode: `e` echoes it and
 * every byte after it; `p` streams bytes without end, as fast as the client reads.
 */
const flood = Buffer.alloc(256 * 1024, 0x70);
for (const port of process.argv.slice(2).map(Number)) {
  const server = net.createServer({ noDelay: true }, serve);
  server.listen({ port, host: '::', backlog: 4096 }, () => process.stdout.write(`listening on ${port}\n`));
}

function serve(socket: net.Socket): void {
  // Clients of the benchmark may end in any way.
  socket.on('error', () => {});
  socket.once('data', (first: Buffer) => {
    if (first[0] === 0x70) {
      pour(socket);
      return;
    }
    socket.write(first);
    socket.on('data', (chunk: Buffer) => socket.write(chunk));
  });
}

function pour(socket: net.Socket): void {
  const fill = (): void => {
    while (!socket.destroyed && socket.write(flood));
  };
  socket.on('drain', fill);
  socket.on('data', () => {});
  fill();
}
