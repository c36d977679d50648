import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { answerFailure } from '../../../../../agent/dataplane/connection/failure-reasons.js';
import { tunnelHeaders } from '../../../../../agent/dataplane/flow/tunnel-headers.js';
import { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import { traceIdOf } from '../../../../../agent/dataplane/connection/trace-context.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { formatSpiffeId } from '../../../../../shared/identity.js';
import type { WorkloadEntry } from '../../../../../shared/routing/registry-entry.js';

describe('a connection record', () => {
  test('becomes a closed connection with all that was noted', () => {
    const record = new ConnectionRecord({ direction: 'outbound' });
    record.requested = { ip: '198.18.200.1' as IpAddress, port: 80 };
    record.service = 'shop/web';
    record.decided(
      {
        verdict: 'allow',
        reason: 'OK',
        rule: { kind: 'AuthorizationPolicy', namespace: 'shop', name: 'web' },
        onChange: { kind: 'terminate' },
        audited: [{ kind: 'Mesh', name: 'default' }],
        trace: [],
      },
      7,
    );
    record.connected('hbone', null);
    record.bytesSent = 10;
    record.bytesReceived = 20;
    record.firstByteAtMs = record.startedAtMs + 5;
    const closed = record.close({ reason: 'OK', detail: '', rule: null });
    assert.match(closed.traceId, /^[0-9a-f]{32}$/);
    assert.equal(closed.path, 'hbone');
    assert.deepEqual(closed.rule, { kind: 'AuthorizationPolicy', namespace: 'shop', name: 'web' });
    assert.deepEqual(closed.audited, [{ kind: 'Mesh', name: 'default' }]);
    assert.equal(closed.revision, 7);
    assert.deepEqual([closed.bytesSent, closed.bytesReceived, closed.firstByteMs], [10, 20, 5]);
    assert.equal(typeof closed.connectMs, 'number');
    assert.equal(closed.service, 'shop/web');
  });

  test('has no connect and first-byte time when the far side was never reached', () => {
    const closed = new ConnectionRecord({ direction: 'inbound' }).close({
      reason: 'CONNECT_REFUSED',
      detail: 'x',
      rule: null,
    });
    assert.equal(closed.connectMs, null);
    assert.equal(closed.firstByteMs, null);
    assert.equal(closed.path, 'none');
  });

  test('takes the rule that ended it in place of the one that let it in', () => {
    const record = new ConnectionRecord({ direction: 'outbound' });
    const rule = { kind: 'SegmentationRule', name: 'x' } as const;
    assert.equal(record.close({ reason: 'POLICY_TERMINATED', detail: '', rule }).rule, rule);
  });

  test('names the rule of the other agent that refused, or none, and never the own rule that had allowed it', () => {
    const own = { kind: 'Mesh', name: 'default' } as const;
    const far = { kind: 'SegmentationRule', name: 'x' } as const;
    const ruleOf = (refusal: { reason: string; rule: string; status: number }): unknown => {
      const record = new ConnectionRecord({ direction: 'outbound' });
      record.decided(
        { verdict: 'allow', reason: 'OK', rule: own, onChange: { kind: 'terminate' }, audited: [], trace: [] },
        1,
      );
      return record.close(answerFailure({ ...refusal, address: '198.18.0.2:15008' })).rule;
    };
    assert.deepEqual(ruleOf({ status: 401, reason: 'POLICY_DENY', rule: 'SegmentationRule/x' }), far);
    for (const [status, reason] of [
      [401, 'POLICY_DENY'],
      [401, 'POLICY_DEFAULT_DENY'],
      [401, ''],
      [401, 'SOURCE_UNKNOWN'],
      [429, 'CONN_LIMIT'],
      [503, 'NO_RULES_YET'],
      [400, 'LOOP_DETECTED'],
    ] as const) {
      assert.equal(ruleOf({ status, reason, rule: '' }), null, reason);
    }
    // Both agents had allowed it, and the application could not be reached.
    assert.deepEqual(ruleOf({ status: 503, reason: 'CONNECT_REFUSED', rule: '' }), own);
  });

  test('does not keep the rule of an endpoint that was tried before', () => {
    const record = new ConnectionRecord({ direction: 'outbound' });
    const rule = { kind: 'Mesh', name: 'default' } as const;
    record.decided(
      { verdict: 'allow', reason: 'OK', rule, onChange: { kind: 'terminate' }, audited: [rule], trace: [] },
      1,
    );
    record.undecided();
    const closed = record.close({ reason: 'CERT_REVOKED', detail: '', rule: null });
    assert.deepEqual([closed.rule, closed.audited], [null, []]);
  });

  test('cannot be closed twice', () => {
    const record = new ConnectionRecord({ direction: 'outbound' });
    record.close({ reason: 'OK', detail: '', rule: null });
    assert.throws(() => record.close({ reason: 'OK', detail: '', rule: null }), /closed twice/);
  });

  test('tells each byte once, also after it was closed', () => {
    const record = new ConnectionRecord({ direction: 'outbound' });
    assert.equal(record.takeLive(), null);
    record.bytesSent = 5;
    assert.equal(record.takeLive()?.sent, 5);
    assert.equal(record.takeLive(), null);
    record.bytesSent = 7;
    record.bytesReceived = 1;
    record.close({ reason: 'OK', detail: '', rule: null });
    assert.deepEqual([record.takeLive()?.sent, record.takeLive()], [2, null]);
  });

  test('keeps the trace id of the other agent', () => {
    const traceId = 'a'.repeat(32);
    assert.equal(new ConnectionRecord({ direction: 'inbound', traceId }).traceId, traceId);
  });
});

describe('the headers of a CONNECT', () => {
  const source: WorkloadEntry = {
    kind: 'workload',
    namespace: 'shop',
    name: 'web-1',
    serviceAccount: 'web',
    identity: formatSpiffeId({ trustDomain: 'culvert.test', namespace: 'shop', serviceAccount: 'web' }),
    labels: { app: 'web', version: 'v 2' },
    addresses: [],
    node: null,
    netns: null,
    protocol: 'hbone',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
  };
  const traceId = '0123456789abcdef0123456789abcdef';

  test('name the client, the source workload and the trace', () => {
    const headers = tunnelHeaders({ source, client: { ip: '198.18.10.1' as IpAddress, port: 40_000 }, traceId });
    assert.equal(headers.forwarded, 'for="198.18.10.1:40000"');
    assert.equal(headers.baggage, 'k8s.namespace.name=shop,k8s.pod.name=web-1,service.name=web,service.version=v%202');
    assert.equal(traceIdOf(headers.traceparent), traceId);
  });

  test('quote an IPv6 client as RFC 7239 asks', () => {
    const { forwarded } = tunnelHeaders({ source, client: { ip: 'fd00::1' as IpAddress, port: 40_000 }, traceId });
    assert.equal(forwarded, 'for="[fd00::1]:40000"');
  });

  for (const bad of [
    '',
    'x',
    `00-${'0'.repeat(32)}-${'1'.repeat(16)}-01`,
    `00-${traceId}`,
    `00-${traceId.toUpperCase()}-${'1'.repeat(16)}-01`,
  ]) {
    test(`a traceparent such as "${bad}" is not taken over`, () => assert.equal(traceIdOf(bad), undefined));
  }
});
