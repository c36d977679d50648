import type { IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Party, RuleRef } from '../../../shared/policy/connection.js';
import { areOneWorkload } from '../../../shared/policy/own-traffic.js';
import { mtlsOf } from '../../../shared/policy/required-mtls.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { refused } from '../connection/ending.js';
import type { OriginalDestination } from '../sockets/socket-addresses.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../../../shared/routing/names.js';
import type { WorkerState } from '../state/worker-state.js';
import type { Facts, FactsSource } from './tracked-connection.js';

/**
 * Who both parties of a connection are. The registry is asked at every evaluation, so a change of labels, identity or
 * workload applies to open connections too. An identity that was proved when the connection began must still be the
 * registered one; otherwise the connection is cut as `CERT_REVOKED`.
 */

/** `source`: the workload of this node. */
export function outboundFacts(init: {
  readonly source: WorkloadEntry;
  readonly clientIp: IpAddress;
  readonly endpoint: Endpoint;
}): FactsSource {
  const { clientIp } = init;
  const { workload, address } = init.endpoint;
  const sourceName = workloadName(init.source);
  return (state) => {
    const source = state.registry.workload(sourceName);
    if (source?.identity !== init.source.identity || !state.hasCertificate(source.identity)) return revoked(sourceName);
    const unreadable = unreadableAt(state, address.ip);
    if (unreadable !== null) return unreadable;
    const current = state.registry.workloadAt(address.ip);
    if (workload?.protocol === 'hbone' && current?.identity !== workload.identity) {
      return revoked(workloadName(workload));
    }
    const [from, destination] = [registeredParty(clientIp, source), registeredParty(address.ip, current)];
    // A service may have the workload itself as an endpoint.
    const connection = { source: from, destination, port: address.port };
    return { connection: areOneWorkload(from, destination) ? { ...connection, isOwn: true } : connection };
  };
}

/** `peerIdentity` comes from the client's certificate; the workload at `peerIp` must have it. */
export function tunnelFacts(init: {
  readonly peerIdentity: SpiffeId;
  readonly peerIp: IpAddress;
  readonly destination: WorkloadEntry;
  readonly authority: OriginalDestination;
}): FactsSource {
  const { peerIdentity, peerIp, authority } = init;
  const destinationName = workloadName(init.destination);
  return (state) => {
    const destination = state.registry.workload(destinationName);
    if (destination?.identity !== init.destination.identity) return revoked(destinationName);
    const unreadable = unreadableAt(state, peerIp);
    if (unreadable !== null) return unreadable;
    const source = state.registry.workloadAt(peerIp);
    if (source?.identity !== peerIdentity) {
      const found = source === undefined ? 'no workload' : source.identity;
      const detail = `${peerIp} proved ${peerIdentity}; the registry has ${found} there`;
      return { refusal: refused('SOURCE_UNKNOWN', detail), whileOpen: 'CERT_REVOKED' };
    }
    return {
      connection: {
        source: registeredParty(peerIp, source),
        destination: registeredParty(authority.ip, destination),
        port: authority.port,
      },
    };
  };
}

/**
 * The client proved no identity. A rule can match its address, and what the registry says of that address can deny but
 * never allow: the missing identity tells the evaluator. Where the PeerAuthentications of the destination, or the mesh, are
 * STRICT for the port, no rule is asked.
 */
export function plaintextFacts(init: {
  readonly clientIp: IpAddress;
  readonly destination: WorkloadEntry;
  readonly address: OriginalDestination;
}): FactsSource {
  const { clientIp, address } = init;
  const destinationName = workloadName(init.destination);
  return (state) => {
    const destination = state.registry.workload(destinationName);
    if (destination === undefined) return revoked(destinationName);
    const unreadable = unreadableAt(state, clientIp);
    if (unreadable !== null) return unreadable;
    const strict = strictRule(state, destination, address.port);
    if (strict !== null) {
      const detail = `plaintext, and ${strict.kind === 'Mesh' ? 'the mesh' : strict.kind} is STRICT`;
      return { refusal: refused('SOURCE_UNKNOWN', detail, strict), whileOpen: 'POLICY_TERMINATED' };
    }
    const source: Party = { ip: clientIp, identity: null, workload: state.registry.workloadAt(clientIp) ?? null };
    return { connection: { source, destination: registeredParty(address.ip, destination), port: address.port } };
  };
}

/** The rule that refuses plaintext at the port; null when plaintext is allowed. */
function strictRule({ snapshot }: WorkerState, destination: WorkloadEntry, port: number): RuleRef | null {
  if (snapshot === null) return null;
  const { mode, rule } = mtlsOf(snapshot, destination, port);
  return mode === 'STRICT' ? rule : null;
}

/** An address of the mesh that is no workload for this agent must not count as one outside the mesh. */
function unreadableAt({ registry }: WorkerState, ip: IpAddress): Facts | null {
  const key = registry.unreadableAt(ip);
  if (key === undefined) return null;
  const detail = `${ip} belongs to ${key}, whose registry entry this agent cannot read: upgrade the agent`;
  return { refusal: refused('REGISTRY_UNREADABLE', detail), whileOpen: 'REGISTRY_UNREADABLE' };
}

function revoked(workload: string): Facts {
  const detail = `${workload} is no longer registered with the identity that it had`;
  return { refusal: refused('CERT_REVOKED', detail), whileOpen: 'CERT_REVOKED' };
}

function registeredParty(ip: IpAddress, workload: WorkloadEntry | undefined): Party {
  return { ip, identity: workload?.identity ?? null, workload: workload ?? null };
}
