import type { CompiledRateLimit } from '../../shared/policy/traffic-documents.js';
import type { RateLimit } from '../resources/kinds/rate-limit.js';
import { byNamespaceAndName } from './compile-authorization.js';
import { hostOf } from './compile-destination-rules.js';

/** Compiles RateLimits, sorted by namespace and name. */
export function compileRateLimits(limits: readonly RateLimit[]): CompiledRateLimit[] {
  return limits.map(compileLimit).sort(byNamespaceAndName);
}

/** Compiled documents, so that unchanged ones stay the same objects. */
const compiled = new WeakMap<RateLimit, CompiledRateLimit>();

function compileLimit(limit: RateLimit): CompiledRateLimit {
  const known = compiled.get(limit) ?? compileUncached(limit);
  compiled.set(limit, known);
  return known;
}

function compileUncached({ metadata, spec }: RateLimit): CompiledRateLimit {
  const { namespace, name } = metadata;
  const { host, ports, from, per, connectionsPerSecond: perSecond, maxConnections, bytesPerSecond, mode } = spec;
  const { burst = Math.max(1, Math.ceil(perSecond ?? 1)) } = spec;
  return {
    namespace,
    name,
    host: hostOf(host, namespace),
    ...(ports === undefined ? {} : { ports: [...new Set(ports)].sort((a, b) => a - b) }),
    ...(from === undefined ? {} : { sources: from }),
    per,
    ...(perSecond === undefined ? {} : { rate: { perSecond, burst } }),
    ...(maxConnections === undefined ? {} : { max: maxConnections }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    mode,
  };
}
