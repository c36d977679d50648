import { culvertApiVersion } from '../resources/kinds/metadata.js';
import type { Service } from '../resources/kinds/service.js';
import type { RegistryEntry, RegistryService } from '../../shared/routing/registry-entry.js';

const written = new WeakMap<RegistryService, Service>();

/** The services of all sources in the form that the compiler takes. The same entry gives the same object. */
export function registeredServices(published: Iterable<{ readonly entry: RegistryEntry }>): Service[] {
  const services: Service[] = [];
  for (const { entry } of published) if (entry.kind === 'service') services.push(serviceOf(entry));
  return services;
}

function serviceOf(entry: RegistryService): Service {
  const known = written.get(entry);
  if (known !== undefined) return known;
  const { namespace, name, vips, ports, selector } = entry;
  const service: Service = {
    apiVersion: culvertApiVersion,
    kind: 'Service',
    metadata: { namespace, name },
    spec: { vips: [...vips], ports: ports.map((port) => ({ ...port })), selector: { ...selector } },
  };
  written.set(entry, service);
  return service;
}
