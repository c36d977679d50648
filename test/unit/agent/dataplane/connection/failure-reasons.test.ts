import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { CulvertError } from '../../../../../shared/errors.js';
import type { Reason } from '../../../../../shared/reasons.js';
import {
  answerFailure,
  connectFailure,
  handshakeFailure,
  handshakeReasons,
  refusedHandshakeOf,
  tunnelConnectFailure,
} from '../../../../../agent/dataplane/connection/failure-reasons.js';

const address = '198.18.0.9:15008';

/** Errors that say nothing of what is connected to. */
const ofThisHost: ReadonlySet<string> = new Set(['EMFILE', 'ENOBUFS', 'EADDRNOTAVAIL', 'EADDRINUSE', 'EWHATEVER']);

describe('a tunnel that cannot be dialled', () => {
  const cases: [string, Reason, boolean][] = [
    ['ECONNREFUSED', 'NOT_MESHED_PEER', true],
    ['ETIMEDOUT', 'CONNECT_TIMEOUT', true],
    ['EHOSTUNREACH', 'HOST_UNREACHABLE', true],
    ['ENETUNREACH', 'HOST_UNREACHABLE', true],
    ['EMFILE', 'RESOURCE_FD', false],
    ['ENOBUFS', 'RESOURCE_FD', false],
    ['EADDRNOTAVAIL', 'RESOURCE_PORTS', true],
    ['EADDRINUSE', 'RESOURCE_PORTS', true],
    ['EWHATEVER', 'HOST_UNREACHABLE', true],
  ];
  for (const [code, reason, isRetryable] of cases) {
    it(`because of ${code} is ${reason}`, () => {
      const failure = tunnelConnectFailure(new CulvertError({ code, message: `connect ${code}` }), address);
      const { isOwn = false } = failure;
      assert.deepEqual([failure.reason, failure.isRetryable, isOwn], [reason, isRetryable, ofThisHost.has(code)]);
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
      const failure = handshakeFailure(new CulvertError({ code, message: 'no' }), address);
      assert.deepEqual([failure.reason, failure.isOwn], [reason, undefined]);
    });
  }

  it('because the other side does not accept our certificate says nothing of the other side', () => {
    const alerts = ['SSLV3_ALERT_BAD_CERTIFICATE', 'SSLV3_ALERT_CERTIFICATE_EXPIRED', 'TLSV1_ALERT_UNKNOWN_CA'];
    for (const alert of [...alerts, 'TLSV13_ALERT_CERTIFICATE_REQUIRED']) {
      const failure = handshakeFailure(new CulvertError({ code: `ERR_SSL_${alert}`, message: 'no' }), address);
      assert.deepEqual([failure.isOwn, failure.isRetryable], [true, true], alert);
    }
  });
});

describe('the answer of the other agent', () => {
  const cases: [string, [status: number, reason: string], Reason, boolean][] = [
    ['with a known reason is believed', [401, 'POLICY_DENY'], 'POLICY_DENY', false],
    ['with a reason of 503 lets another endpoint try', [503, 'CONNECT_TIMEOUT'], 'CONNECT_TIMEOUT', true],
    ['with an unknown reason goes by its status', [401, 'BECAUSE'], 'POLICY_DENY', false],
    ['with a reason of another status goes by its status', [503, 'POLICY_DENY'], 'CONNECT_REFUSED', true],
    ['cannot claim that all is well', [503, 'OK'], 'CONNECT_REFUSED', true],
    ['of a ztunnel that denies is POLICY_DENY', [401, ''], 'POLICY_DENY', false],
    ['that makes no sense is PROTOCOL_ERROR', [302, ''], 'PROTOCOL_ERROR', false],
  ];
  for (const [what, [status, claimed], reason, isRetryable] of cases) {
    it(what, () => {
      const refusal = answerFailure({ status, reason: claimed, rule: '', address });
      assert.equal(refusal.reason, reason);
      assert.equal(refusal.isRetryable, isRetryable);
    });
  }

  it('names a rule of bounded length, and nothing else', () => {
    const ruleOf = (rule: string) => answerFailure({ status: 401, reason: '', rule, address }).rule;
    assert.deepEqual(ruleOf('SegmentationRule/db-only'), { kind: 'SegmentationRule', name: 'db-only' });
    assert.deepEqual(ruleOf('NetworkPolicy/shop/db'), { kind: 'NetworkPolicy', namespace: 'shop', name: 'db' });
    for (const text of [
      '',
      'r'.repeat(100),
      `Mesh/${'r'.repeat(254)}`,
      'Rule/x',
      'Mesh/a/b/c',
      'Mesh/<script>',
      'Mesh/x\n',
    ]) {
      assert.equal(ruleOf(text), null, text);
    }
  });
});

describe('a failed connect to an application', () => {
  const cases: [string, Reason, boolean][] = [
    ['ECONNREFUSED', 'CONNECT_REFUSED', true],
    ['ETIMEDOUT', 'CONNECT_TIMEOUT', true],
    ['EHOSTUNREACH', 'HOST_UNREACHABLE', true],
    ['ENETUNREACH', 'HOST_UNREACHABLE', true],
    ['EMFILE', 'RESOURCE_FD', false],
    ['EADDRNOTAVAIL', 'RESOURCE_PORTS', true],
    ['EWHATEVER', 'HOST_UNREACHABLE', true],
  ];
  for (const [code, reason, isRetryable] of cases) {
    it(`with ${code} is ${reason}`, () => {
      const failure = connectFailure(new CulvertError({ code, message: 'no' }), '198.18.0.1:80');
      const own = ofThisHost.has(code) ? { isOwn: true } : {};
      assert.deepEqual(failure, {
        ok: false,
        reason,
        isRetryable,
        rule: null,
        detail: `${code} 198.18.0.1:80`,
        ...own,
      });
    });
  }

  it('without an errno keeps the text', () => {
    assert.equal(connectFailure(new Error('odd'), 'x').detail, 'x: odd');
  });
});

describe('a handshake that a server counts', () => {
  const cases = [
    ['ECONNRESET', 'handshake_aborted'],
    ['ETIMEDOUT', 'handshake_aborted'],
    ['ERR_TLS_HANDSHAKE_TIMEOUT', 'handshake_timeout'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'not_tls'],
    ['ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE', 'no_certificate'],
    ['CERT_HAS_EXPIRED', 'expired_certificate'],
    ['SELF_SIGNED_CERT_IN_CHAIN', undefined],
  ] as const;
  for (const [code, kind] of cases) it(`with ${code} is ${kind}`, () => assert.equal(refusedHandshakeOf(code), kind));

  it('can fail with five reasons', () => {
    const expected = ['CERT_EXPIRED', 'CERT_NOT_YET_VALID', 'CERT_REVOKED', 'PEER_IDENTITY', 'TLS_HANDSHAKE'];
    assert.deepEqual([...handshakeReasons].toSorted(), expected);
  });
});
