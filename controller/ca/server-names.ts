import { hostname } from 'node:os';

/** The name in the certificate of the embedded nats-server. Agents verify it, whichever address they dial. */
export const embeddedNatsName = 'culvert-nats';

/** Under which names hosts reach this one; null: the setting is not set. */
export function advertisedNames(advertise: readonly string[] | null): readonly string[] {
  return advertise ?? ['localhost', hostname()];
}

/** Every name that a certificate of the controller's API carries. */
export function apiNamesOf(advertise: readonly string[] | null): readonly string[] {
  return [...new Set([...advertisedNames(advertise), 'localhost', hostname(), '127.0.0.1', '::1'])];
}

/** Every name that a certificate of one of the controller's servers carries. */
export function serverNamesOf(advertise: readonly string[] | null): readonly string[] {
  return [...apiNamesOf(advertise), embeddedNatsName];
}
