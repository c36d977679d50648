/**
 * Services as hosts of Istio's documents: `web.shop.svc.cluster.local`, and wildcards over such names. Source: Istio's
 * reference, Networking / Destination Rule, `host`.
 */

/** What all names of services end with. */
const servicesDomain = 'svc.cluster.local';
const anyHost = '*';

const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const shortName = new RegExp(`^${label}$`);
const wholeName = new RegExp(`^${label}(?:\\.${label})*\\.(${label})\\.svc\\.cluster\\.local$`);
const underServices = new RegExp(`^(?:${label}\\.)*svc\\.cluster\\.local$`);
/** `web.shop` and `web.shop.svc`, which Istio takes for whole names: no service has such a name. */
const halfName = new RegExp(`^${label}\\.${label}(?:\\.svc)?$`);

/** The whole name of a service. */
export function serviceHost({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${name}.${namespace}.${servicesDomain}`;
}

/**
 * The whole name or the wildcard for a host as a document of `namespace` has it: a name without a dot is a service of that
 * namespace. Undefined: it can name no service.
 */
export function completeHost(written: string, namespace: string): string | undefined {
  if (shortName.test(written)) return serviceHost({ namespace, name: written });
  if (written === anyHost || wholeName.test(written)) return written;
  if (!written.startsWith('*.')) return undefined;
  const suffix = written.slice(2);
  return underServices.test(suffix) || suffix === 'cluster.local' || suffix === 'local' ? written : undefined;
}

/** What was probably meant by a host that names no service; undefined: nothing similar could be meant. */
export function meantHost(written: string): string | undefined {
  return halfName.test(written) ? `${written.replace(/\.svc$/, '')}.${servicesDomain}` : undefined;
}

/** The one service that a complete host names, `namespace/name`; undefined: it is a wildcard. */
export function serviceOfHost(host: string): string | undefined {
  const namespace = wholeName.exec(host)?.[1];
  if (namespace === undefined) return undefined;
  return `${namespace}/${host.slice(0, -`.${namespace}.${servicesDomain}`.length)}`;
}

export function isWildcard(host: string): boolean {
  return host.startsWith('*');
}

/** Whether a wildcard is for the whole name of a service. */
export function wildcardMatches(wildcard: string, name: string): boolean {
  return wildcard === anyHost || name.endsWith(wildcard.slice(1));
}
