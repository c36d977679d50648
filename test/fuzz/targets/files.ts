import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { RegistryFile } from '../../../agent/control/state/registry-file.js';
import { chainStart, encodeEntry } from '../../../controller/audit-log/audit-entry.js';
import { ChainVerifier } from '../../../controller/audit-log/verify-chain.js';
import { encodeLine, playLines } from '../../../controller/records/record-line.js';
import { someAuditFacts } from '../../support/controller/audit-facts.js';
import { withoutValues, type FuzzTarget } from '../target.js';

export const registryFileTarget: FuzzTarget = {
  name: 'registry-file',
  reads: "the agent's state file registry.state, damaged or written by someone else",
  seeds: () => [
    wholeBlock('workload.shop.web 5\nhello\nservice.shop.db 0\n\n'),
    wholeBlock(''),
    wholeBlock('workload.shop.web 5\nhello\nworkload.shop.web -\n'),
  ],
  words: ['workload.a.b 3\nabc\n', ' -\n', ' -1\n', ' 1e3\n', ' NaN\n', '\n', ' 9007199254740993\n'],
  check: async (input) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'culvert-fuzz-'));
    try {
      const file = path.join(directory, 'registry.state');
      // With its own checksum, a body is read to its end.
      const body = input.subarray(input.indexOf(10) + 1);
      const outcomes: string[] = [];
      for (const bytes of [input, wholeBlock(body)]) {
        writeFileSync(file, bytes, { mode: 0o600 });
        const stored = await new RegistryFile({ path: file }).read();
        outcomes.push(stored.kind === 'corrupt' ? withoutValues(stored.problem) : stored.kind);
      }
      return outcomes.join();
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
};

function wholeBlock(text: string | Uint8Array): Buffer {
  const body = Buffer.from(text);
  const sha256 = createHash('sha256').update('true true\n').update(body).digest('hex');
  const header = {
    format: 'culvert-registry',
    version: 1,
    isWhole: true,
    isComplete: true,
    bytes: body.length,
    sha256,
  };
  return Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), body]);
}

export const journalTarget: FuzzTarget = {
  name: 'journal',
  reads: "the controller's files of records, damaged",
  seeds: () => [Buffer.concat([1, 2, 3].map((revision) => encodeLine({ revision, text: 'x' }))), encodeLine({})],
  words: ['\n', ' ', '{"revision":4}\n', '\0'],
  check: (input) => {
    const played = playLines(input, () => true);
    if (!played.ok) return withoutValues(played.problem);
    assert.ok(played.validBytes <= input.length);
    // What stays after a repair is read whole.
    const again = playLines(input.subarray(0, played.validBytes), () => true);
    assert.deepEqual(again, { ok: true, records: played.records, validBytes: played.validBytes });
    return played.validBytes === input.length ? 'whole' : 'cut';
  },
};

export const auditLogTarget: FuzzTarget = {
  name: 'audit-log',
  reads: 'lines of the audit log, as "culvert audit-log verify" gets them',
  seeds: () => {
    let { hash: prev } = chainStart;
    const lines = [1, 2, 3].map((seq) => {
      const { text, hash } = encodeEntry({ ...someAuditFacts, seq, at: '2026-01-01T00:00:00Z', prev });
      prev = hash;
      return text;
    });
    return [Buffer.from(lines.join('\n'))];
  },
  words: ['\n', '"seq":', '"hash":"', ',"detail":{"through":1}', '"action":"audit-log.shortened"', '\\u0000'],
  check: (input) => {
    const verifier = new ChainVerifier();
    const lines = input.toString('utf8').split('\n');
    for (const line of lines) verifier.add(line);
    const { broken, lines: verified } = verifier.verdict;
    assert.ok(verified <= lines.length);
    return broken === null ? `${Math.min(verified, 9)} lines` : withoutValues(broken.problem);
  },
};
