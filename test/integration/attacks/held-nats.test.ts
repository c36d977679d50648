import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import type { ApplyAnswer } from '../../../controller/api/api-types.js';
import {
  callApi,
  documents,
  eventually,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { ready, spawnedController } from '../../support/controller/controller-process.js';

/** A stranger opens connections to the port of NATS and says nothing; each is opened again when the server ends it. */
class Silence implements Disposable {
  readonly #sockets = new Set<Socket>();
  #isOver = false;

  constructor(init: { readonly port: number; readonly connections: number }) {
    for (let count = 0; count < init.connections; count++) this.#open(init.port);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  #open(port: number): void {
    if (this.#isOver) return;
    const socket = connect(port, '127.0.0.1').resume();
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      setTimeout(() => this.#open(port), 50);
    });
  }
}

/** Connections beyond the limit are accepted before they are ended, so for a moment they are in what is left to the store. */
const openFiles = 1200;

test('a stranger who takes every connection of NATS stops no change, and fills no log', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  await using controller = await spawnedController(stateDir, ['--log-level', 'debug'], {
    within: ['sh', '-c', `ulimit -n ${openFiles} && exec "$0" "$@"`],
  });
  const access = await controller.access();
  await ready(access);
  const pid = Number(readFileSync(path.join(stateDir, 'nats/nats-server.pid'), 'utf8'));
  const used = (): number => readdirSync(`/proc/${pid}/fd`).length;
  const port = Number(/Listening for client connections on [^"]*:(\d+)/.exec(controller.output())?.[1]);
  const before = used();
  {
    using _silence = new Silence({ port, connections: openFiles });
    await eventually('its connections have taken what there is', async () =>
      used() >= before + openFiles / 2 ? true : undefined,
    );
    for (let round = 0; round < 5; round++) {
      const many = Array.from({ length: 60 }, (_, at) =>
        workloadDocument('shop', `w${at}`, { ip: `198.18.${round}.${at + 1}` }),
      );
      const answer = await callApi(access, 'POST', '/v1/apply', { body: { documents: documents(...many) } });
      assert.equal(answer.status, 200, answer.text);
      assert.equal((answer.body as ApplyAnswer).inventory.changes, 60);
      assert.ok(used() < openFiles, `${used()} descriptors`);
    }
  }
  const about = controller
    .output()
    .split('\n')
    .filter((line) => /nats-server.* - cid:\d+ - /.test(line));
  const shown = about.filter((line) => !/"level":(?:20|"debug")/.test(line));
  assert.ok(about.length > openFiles / 2, `${about.length} lines about connections`);
  assert.ok(shown.length > 0 && shown.length < 100, `${shown.length} of ${about.length} lines are shown`);
});
