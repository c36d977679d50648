import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { reasons, type Reason } from '../../../../../shared/reasons.js';
import { rejectFrames, rejectReason } from '../../../../../agent/dataplane/tunnel/reject-handshake.js';
import { ResetBudget } from '../../../../../agent/dataplane/tunnel/reset-budget.js';
import { maxSessionMemoryMb } from '../../../../../agent/dataplane/engine/session-options.js';

describe('a GOAWAY that refuses a client', () => {
  const debugDataOf = (reason: Reason): Buffer => rejectFrames(reason).subarray(9 + 9 + 8);

  it('carries the reason', () => {
    assert.equal(rejectReason(12, debugDataOf('CERT_EXPIRED')), 'CERT_EXPIRED');
  });

  it('can blame nothing but the handshake', () => {
    for (const reason of Object.keys(reasons) as Reason[]) {
      assert.match(String(rejectReason(12, debugDataOf(reason))), /^(TLS_HANDSHAKE|PEER_IDENTITY|CERT_)/);
    }
  });

  it('has no reason with another code', () => {
    assert.equal(rejectReason(0, debugDataOf('CERT_EXPIRED')), undefined);
    assert.equal(rejectReason(12, undefined), undefined);
  });
});

describe('the budget of resets', () => {
  it('is spent well before nghttp2 answers with GOAWAY, and never at its refill rate', () => {
    let nowMs = 0;
    const burst = new ResetBudget({ nowMs: () => nowMs });
    let resets = 0;
    while (!burst.isSpent) {
      burst.spend();
      resets += 1;
    }
    assert.ok(resets + 100 < 1000, `${resets} resets`);
    const steady = new ResetBudget({ nowMs: () => nowMs });
    for (let index = 0; index < 10_000; index++) {
      nowMs += 50;
      steady.spend();
    }
    assert.equal(steady.isSpent, false);
  });
});

describe('the memory of a session', () => {
  it('has room for every stream to wait for its peer', () => {
    assert.ok(maxSessionMemoryMb(100) * 1_000_000 >= 100 * 262_144);
    assert.ok(Number.isInteger(maxSessionMemoryMb(7)));
  });
});
