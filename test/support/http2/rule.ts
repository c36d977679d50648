import assert from 'node:assert/strict';
import { errorCode } from '../../../agent/dataplane/engine/http2-error-code.js';
import { encodeFrame, encodeHeaders, endHeaders, frameType } from '../tunnel/tunnel-raw-peer.js';
import { EngineProbe, startedClient, startedServer } from './engine-fixture.js';

/** A breach of RFC 9113 and what it is answered with, or what is no breach. */
export type Rule = {
  /** Section of RFC 9113, and the rule. */
  readonly rule: string;
  readonly send: readonly Buffer[];
  /** A server with stream 1 open, unless told otherwise. */
  readonly to?: 'client' | 'client before the answer' | 'fresh server' | 'fresh client';
  readonly expect:
    | { readonly connection: keyof typeof errorCode }
    | { readonly stream: keyof typeof errorCode }
    | 'nothing';
  /** The stream that is reset; 1 unless told otherwise. */
  readonly streamId?: number;
};

/** A rule of each row, all of them with the same answer: what it says, and the frames that are sent. */
export function rulesWith(
  answer: Omit<Rule, 'rule' | 'send'>,
  rows: readonly (readonly [rule: string, ...frames: Buffer[]])[],
): Rule[] {
  return rows.map(([rule, ...send]) => ({ rule, send, ...answer }));
}

/** Sends it, and fails unless the answer is the expected one and nothing else. */
export function checkRule(rule: Rule): void {
  const probe = probeFor(rule);
  probe.frames();
  probe.engine.receive(Buffer.concat(rule.send));
  const frames = probe.frames();
  const resets = frames.filter(({ type }) => type === frameType.rst);
  const connectionCode = probe.sentCode(frameType.goaway, frames);
  if (rule.expect === 'nothing') {
    assert.deepEqual([resets.length, connectionCode, probe.failure], [0, null, null]);
    return;
  }
  if ('connection' in rule.expect) {
    assert.equal(connectionCode, errorCode[rule.expect.connection], probe.failure ?? 'no failure');
    assert.notEqual(probe.failure, null);
    assert.equal(probe.engine.streamCount, 0);
    return;
  }
  assert.equal(connectionCode, null);
  assert.deepEqual(
    resets.map(({ stream, payload }) => [stream, payload.readUInt32BE()]),
    [[rule.streamId ?? 1, errorCode[rule.expect.stream]]],
  );
}

function probeFor(rule: Rule): EngineProbe {
  switch (rule.to) {
    case 'client':
      return startedClient();
    case 'client before the answer':
      return startedClient({}, false);
    case 'fresh server':
      return new EngineProbe('server');
    case 'fresh client':
      return new EngineProbe('client');
    default:
      return startedServer();
  }
}

export function data(stream: number, payload: Buffer | string = '', flags = 0): Buffer {
  return encodeFrame(frameType.data, flags, stream, Buffer.from(payload));
}

export function headers(stream: number, fields: Readonly<Record<string, string>>, flags = endHeaders): Buffer {
  return encodeFrame(frameType.headers, flags, stream, encodeHeaders(fields));
}
