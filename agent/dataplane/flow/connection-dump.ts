import { formatHostPort } from '../../../shared/address.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { ConnectionDump } from '../messages.js';
import type { ConnectionParty } from '../report/closed-connection.js';
import type { TrackedConnection } from './tracked-connection.js';

/** An open connection as the admin endpoint shows it. */
export function dumpOf({ record, grace: { kind, rule } }: TrackedConnection): ConnectionDump {
  return {
    traceId: record.traceId,
    direction: record.direction,
    path: record.path,
    source: describeParty(record.source),
    destination: describeParty(record.destination),
    rule: record.rule === null ? null : formatRuleRef(record.rule),
    ...(kind === null || rule === null ? {} : { grace: { kind, deniedBy: formatRuleRef(rule) } }),
    bytesSent: record.bytesSent,
    bytesReceived: record.bytesReceived,
    startedAtMs: record.startedAtMs,
  };
}

function describeParty(party: ConnectionParty): string {
  const address = party.address === null ? 'unknown' : formatHostPort(party.address);
  return party.workload === null ? address : `${party.workload} (${address})`;
}
