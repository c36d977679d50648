import { formatCidr, parseCidr } from '../../shared/address.js';
import type { ServiceEntry } from '../resources/kinds/service-entry.js';
import { mergePorts } from './merge-ports.js';
import type { CompiledExternal } from '../../shared/policy/snapshot.js';
import { serviceName } from '../../shared/routing/names.js';

/** Compiles ServiceEntries, sorted by name. */
export function compileExternals(entries: readonly ServiceEntry[]): CompiledExternal[] {
  return entries.map(compileEntry).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function compileEntry({ metadata, spec }: ServiceEntry): CompiledExternal {
  return {
    name: serviceName(metadata),
    hosts: spec.hosts,
    cidrs: externalCidrs(spec),
    ports: mergePorts((spec.ports ?? []).map(({ number }) => number)),
    ...lateAcceptPortsOf(spec),
  };
}

/** Without any, an entry has no such field. */
function lateAcceptPortsOf({ ports = [] }: ServiceEntry['spec']): Pick<CompiledExternal, 'lateAcceptPorts'> {
  const late = ports.flatMap(({ number, earlyAccept }) => (earlyAccept === false ? [number] : []));
  return late.length === 0 ? {} : { lateAcceptPorts: [...new Set(late)].sort((a, b) => a - b) };
}

/** The networks of a ServiceEntry, in canonical spelling. */
export function externalCidrs({ addresses, endpoints }: ServiceEntry['spec']): string[] {
  const texts = [...(addresses ?? []), ...(endpoints ?? []).map(({ address }) => address)];
  const cidrs = texts.map(parseCidr).filter((cidr) => cidr !== undefined);
  return [...new Set(cidrs.map(formatCidr))].sort();
}
