import type {
  CompiledVirtualService,
  FaultShare,
  RouteFaults,
  RouteMatch,
  RouteMirror,
} from '../../shared/policy/traffic-documents.js';
import { serviceOfHost } from '../../shared/routing/service-hosts.js';
import { parseInstant } from '../resources/kinds/instant.js';
import type { RouteFault } from '../resources/kinds/route-fault.js';
import type { WrittenMirror } from '../resources/kinds/route-mirror.js';
import type { VirtualService } from '../resources/kinds/virtual-service.js';
import { takenDurationMs } from '../resources/kinds/duration-field.js';
import { byNamespaceAndName } from './compile-authorization.js';
import { exportOf, hostOf } from './compile-destination-rules.js';

type Match = NonNullable<VirtualService['spec']['tcp'][number]['match']>[number];

/** Compiles VirtualServices, sorted by namespace and name. */
export function compileVirtualServices(services: readonly VirtualService[]): CompiledVirtualService[] {
  return services.map(compileService).sort(byNamespaceAndName);
}

/** Compiled documents, so that unchanged ones stay the same objects. */
const compiled = new WeakMap<VirtualService, CompiledVirtualService>();

function compileService(service: VirtualService): CompiledVirtualService {
  const known = compiled.get(service) ?? compileUncached(service);
  compiled.set(service, known);
  return known;
}

function compileUncached({ metadata, spec }: VirtualService): CompiledVirtualService {
  const { namespace, name } = metadata;
  return {
    namespace,
    name,
    host: hostOf(spec.hosts[0] ?? '', namespace),
    ...exportOf(spec.exportTo ?? [], namespace),
    routes: spec.tcp.map(({ match = [], route, retries, timeout, fault, mirror, mirrorPercentage }) => ({
      matches: match.map(compileMatch),
      choices: route.map(({ destination, weight = route.length === 1 ? 1 : 0 }) => ({
        subset: destination.subset ?? null,
        weight,
      })),
      ...(retries === undefined ? {} : { attempts: retries.attempts }),
      ...(retries?.perTryTimeout === undefined ? {} : { perTryTimeoutMs: takenDurationMs(retries.perTryTimeout) }),
      ...(timeout === undefined ? {} : { timeoutMs: takenDurationMs(timeout) }),
      ...(fault === undefined ? {} : { faults: compileFault(fault) }),
      ...(mirror === undefined
        ? {}
        : { mirror: compileMirror(mirror, { of: spec.hosts[0] ?? '', namespace, share: mirrorPercentage }) }),
    })),
  };
}

function compileFault({ delay, abort, throttle }: RouteFault): RouteFaults {
  return {
    ...(delay === undefined ? {} : { delay: { ...shareOf(delay), delayMs: takenDurationMs(delay.fixedDelay) } }),
    ...(abort === undefined ? {} : { abort: shareOf(abort) }),
    ...(throttle === undefined ? {} : { throttle: { ...shareOf(throttle), bytesPerSecond: throttle.bytesPerSecond } }),
  };
}

function shareOf({ percentage, expiresAt }: NonNullable<RouteFault['abort']>): FaultShare {
  const expiresAtMs = expiresAt === undefined ? undefined : parseInstant(expiresAt);
  return { percent: percentage.value, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
}

/** Of the service itself without a port it says no service: it is for each of its ports, as the route is. */
function compileMirror(
  { host, subset, port }: WrittenMirror,
  {
    of,
    namespace,
    share,
  }: { readonly of: string; readonly namespace: string; readonly share?: { value: number } | undefined },
): RouteMirror {
  const whole = hostOf(host, namespace);
  const isItself = whole === hostOf(of, namespace) && port === undefined;
  const service = serviceOfHost(whole);
  if (service === undefined) throw new Error(`the schema takes no shadow ${host}`);
  return {
    percent: share?.value ?? 100,
    subset: subset ?? null,
    ...(isItself ? {} : { service }),
    ...(port === undefined ? {} : { port: port.number }),
  };
}

function compileMatch(match: Match): RouteMatch {
  const { gateways: _, ...compiledMatch } = match;
  return compiledMatch;
}
