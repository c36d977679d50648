import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { ownPort } from '../../support/own-port.js';

const run = promisify(execFile);
const module = new URL('../../support/own-port.js', import.meta.url).href;

describe('a port of a test’s own', () => {
  it('is never given to a connection by the kernel, and is free', async () => {
    const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
    const port = await ownPort();
    assert.ok(port < Number(range.trim().split(/\s+/)[0]), `${port} is in the range of ephemeral ports`);
    const server = createServer().listen(port, '127.0.0.1');
    await new Promise((resolve, reject) => server.on('listening', resolve).on('error', reject));
    server.close();
  });

  it('is given to no other process while this one runs', async () => {
    const mine = new Set<number>();
    for (let count = 0; count < 500; count++) mine.add(await ownPort());
    assert.equal(mine.size, 500, 'none twice');
    const code = `import { ownPort } from '${module}';
      for (let count = 0; count < 2000; count++) console.log(await ownPort());`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', code]);
    const theirs = stdout.trim().split('\n').map(Number);
    assert.equal(theirs.length, 2000);
    // By chance, 62 of them would be mine.
    assert.deepEqual(
      theirs.filter((port) => mine.has(port)),
      [],
    );
  });
});
