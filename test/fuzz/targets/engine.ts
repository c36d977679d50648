import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { buildSanitizedAddon } from '../../support/program/sanitized-addon.js';
import { NativeReader } from '../native-reader.js';
import { once, type FuzzTarget } from '../target.js';

const reader = once(async () => {
  // Its files are needed until the driver has begun.
  using addon = buildSanitizedAddon();
  const driver = fileURLToPath(new URL('../engine-driver.js', import.meta.url));
  const started = NativeReader.start(process.execPath, [...addon.nodeArguments, driver], addon.environment);
  await started.ask(Buffer.alloc(0));
  return started;
});

/** Programs for the driver: see the order of its functions there, behind its own four. */
const [pair, secure] = [
  [0, 0],
  [1, 0],
];
const [send, receive, tlsReceive, tlsSend, splice, close] = [8, 7, 20, 21, 14, 11];

export const engineTarget: FuzzTarget = {
  name: 'engine',
  reads: "calls of the engine's floor in any order and with any arguments (in C)",
  seeds: () =>
    [
      [...pair, send, 0, 0, 1, 5, receive, 0, 1, 0, 7],
      [...pair, ...secure, tlsSend, 0, 0, 1, 11, tlsReceive, 0, 1, 0, 9, 11, 24, 0, 1, tlsSend, 0, 1, 1, 8],
      [...pair, ...pair, send, 0, 0, 1, 10, splice, 0, 1, 2, 9, close, 0, 1, 1],
      [...pair, ...secure, close, 0, 0, 1, tlsReceive, 0, 1, 0, 9, 11, 23, 0, 1],
      [...pair, ...secure, 3, 0, tlsReceive, 0, 0, 0, 9, 11],
    ].map((bytes) => Buffer.from(bytes)),
  words: [
    '\0\0',
    '\x01\0\x02\x02',
    '\x14\0\x01\0\x09\x0b',
    '\x15\0\0\x01\x0b',
    '\x0b\0\0\x01',
    '\xff\xff\xff\xff',
    '\x80',
  ],
  check: async (input) => {
    if (input.length > 4096) return 'long';
    const answer = await (await reader()).ask(input);
    assert.doesNotMatch(answer, /^LEFT/);
    return answer;
  },
};
