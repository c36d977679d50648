import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { CulvertError } from '../../../../../shared/errors.js';
import { reasons, type Reason } from '../../../../../shared/reasons.js';
import { dialFailure, refusalOf, tlsFailure } from '../../../../../agent/dataplane/tunnel/tunnel-failure.js';
import { rejectFrames, rejectReason } from '../../../../../agent/dataplane/tunnel/reject-handshake.js';
import { ResetBudget } from '../../../../../agent/dataplane/tunnel/reset-budget.js';
import { maxSessionMemoryMb } from '../../../../../agent/dataplane/engine/session-options.js';

const address = '198.18.0.9:15008';

describe('a tunnel that cannot be dialled', () => {
  const cases: [string, Reason, boolean][] = [
    ['ECONNREFUSED', 'NOT_MESHED_PEER', true],
    ['ETIMEDOUT', 'CONNECT_TIMEOUT', true],
    ['EHOSTUNREACH', 'HOST_UNREACHABLE', true],
    ['ENETUNREACH', 'HOST_UNREACHABLE', true],
    ['EMFILE', 'RESOURCE_FD', false],
    ['EADDRNOTAVAIL', 'RESOURCE_PORTS', true],
  ];
  for (const [code, reason, isRetryable] of cases) {
    it(`because of ${code} is ${reason}`, () => {
      const failure = dialFailure(new CulvertError({ code, message: `connect ${code}` }), address);
      assert.deepEqual({ reason: failure.reason, isRetryable: failure.isRetryable }, { reason, isRetryable });
      assert.equal(failure.detail, `tunnel to ${address}: connect ${code}`);
    });
  }
});

describe('a handshake that fails', () => {
  const cases: [string, Reason][] = [
    ['CERT_HAS_EXPIRED', 'CERT_EXPIRED'],
    ['CERT_NOT_YET_VALID', 'CERT_NOT_YET_VALID'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'TLS_HANDSHAKE'],
    ['PEER_IDENTITY', 'PEER_IDENTITY'],
    ['ECONNRESET', 'TLS_HANDSHAKE'],
  ];
  for (const [code, reason] of cases) {
    it(`with ${code} is ${reason}`, () => {
      assert.equal(tlsFailure(new CulvertError({ code, message: 'no' }), address).reason, reason);
    });
  }
});

describe('the answer of the other agent', () => {
  const cases: [string, Record<string, string>, Reason, boolean][] = [
    ['with a known reason is believed', { ':status': '401', 'x-culvert-reason': 'POLICY_DENY' }, 'POLICY_DENY', false],
    [
      'with a reason of 503 lets another endpoint try',
      { ':status': '503', 'x-culvert-reason': 'CONNECT_TIMEOUT' },
      'CONNECT_TIMEOUT',
      true,
    ],
    [
      'with an unknown reason goes by its status',
      { ':status': '401', 'x-culvert-reason': 'BECAUSE' },
      'POLICY_DENY',
      false,
    ],
    [
      'with a reason of another status goes by its status',
      { ':status': '503', 'x-culvert-reason': 'POLICY_DENY' },
      'CONNECT_REFUSED',
      true,
    ],
    ['cannot claim that all is well', { ':status': '503', 'x-culvert-reason': 'OK' }, 'CONNECT_REFUSED', true],
    ['of a ztunnel that denies is POLICY_DENY', { ':status': '401' }, 'POLICY_DENY', false],
    ['that makes no sense is PROTOCOL_ERROR', { ':status': '302' }, 'PROTOCOL_ERROR', false],
  ];
  for (const [what, headers, reason, isRetryable] of cases) {
    it(what, () => {
      const refusal = refusalOf(headers, address);
      assert.equal(refusal.reason, reason);
      assert.equal(refusal.isRetryable, isRetryable);
    });
  }

  it('names a rule of bounded length', () => {
    const refusal = refusalOf({ ':status': '401', 'x-culvert-rule': 'r'.repeat(10_000) }, address);
    assert.equal(refusal.rule.length, 256);
  });
});

describe('a GOAWAY that turns a client away', () => {
  const debugDataOf = (reason: Reason): Buffer => rejectFrames(reason).subarray(9 + 9 + 8);

  it('carries the reason', () => {
    assert.equal(rejectReason(12, debugDataOf('CERT_EXPIRED')), 'CERT_EXPIRED');
  });

  it('can blame nothing but the handshake', () => {
    for (const reason of Object.keys(reasons) as Reason[]) {
      assert.match(String(rejectReason(12, debugDataOf(reason))), /^(TLS_HANDSHAKE|PEER_IDENTITY|CERT_)/);
    }
  });

  it('is none of another code', () => {
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
