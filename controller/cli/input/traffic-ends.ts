import { parseIp, type HostPort } from '../../../shared/address.js';
import { didYouMean } from '../../../shared/nearest-name.js';
import { servedPort } from '../../../shared/routing/destination.js';
import { serviceName } from '../../../shared/routing/names.js';
import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { resolveName, type NameWord } from '../../analysis/registry/registered-name.js';
import type { RegistryLookup } from '../../analysis/registry/registry-lookup.js';
import { CliError, usageError } from '../exit-codes.js';
import type { WhyTarget } from './why-target.js';

/** The workloads that a text means as clients, at least one. Throws CliError (notFound, usage). */
export function findClients(text: string, registry: RegistryLookup): readonly WorkloadEntry[] {
  const ip = parseIp(text);
  if (ip !== undefined) {
    const workload = registry.workloadAt(ip);
    if (workload !== undefined) return [workload];
    throw notFound(`no workload has the address ${text}`, 'documents steer workloads of the mesh only');
  }
  const found = resolveName(registry, nameOf(text, /^(?:(workload|sa):)?([^/:]+\/[^/:]+)$/), 'source');
  if (found.kind === 'workload') return [found.workload];
  if (found.kind === 'serviceAccount') return found.workloads;
  const hint = didYouMean(text, registry.sourceNames(), 'list them: culvert get workloads');
  throw notFound(`no workload or service account is called ${text}`, hint);
}

/** The service that a text means, and the address that a client dials. Throws CliError (notFound, usage). */
export function findService(
  { destination, port }: WhyTarget,
  registry: RegistryLookup,
): { readonly service: RegistryService; readonly dialled: HostPort } {
  const ip = parseIp(destination);
  const service = ip === undefined ? namedService(destination, registry) : registry.serviceAt(ip);
  if (service === undefined) {
    const message = `no service has the address ${destination}`;
    throw notFound(message, 'connections to any other address go to that address: name a service');
  }
  const vip = ip ?? service.vips[0];
  if (vip === undefined) {
    const message = `the service ${serviceName(service)} has no address, so clients dial its workloads`;
    throw notFound(message, 'connections go where they are dialled, and no document steers them');
  }
  const ports = service.ports.map((each) => each.port).join(', ');
  const served = servedPort(service, port === null ? null : Number(port));
  if (served === undefined) {
    const what = port === null ? 'has several ports' : `has no port ${port}`;
    throw usageError(`the service ${serviceName(service)} ${what}`, `write NAMESPACE/NAME:PORT with one of ${ports}`);
  }
  return { service, dialled: { ip: vip, port: served.port } };
}

function namedService(text: string, registry: RegistryLookup): RegistryService {
  const { name } = nameOf(text, /^(?:(service):)?([^/:]+\/[^/:]+)$/);
  const found = resolveName(registry, { word: 'service', name }, 'destination');
  if (found.kind === 'service') return found.service;
  const hint = didYouMean(name, registry.serviceNames(), 'list them: culvert get services');
  throw notFound(`there is no service ${name}`, hint);
}

function nameOf(text: string, pattern: RegExp): { readonly word: NameWord; readonly name: string } {
  const match = pattern.exec(text);
  const name = match?.[2];
  if (name !== undefined) return { word: (match?.[1] ?? null) as NameWord, name };
  throw usageError(`"${text}" is neither an IP address nor NAMESPACE/NAME`, 'write it as billing/db');
}

function notFound(message: string, hint: string): CliError {
  return new CliError({ exit: 'notFound', code: 'NOT_FOUND', message, hint });
}
