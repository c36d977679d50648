import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { CulvertError } from '../../shared/errors.js';

/** The name in the certificate of the embedded nats-server. Agents verify it, whichever address they dial. */
export const embeddedNatsName = 'culvert-nats';

/** A host name (RFC 1123, 2.1; "_" is in use all the same). */
const hostName = /^(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?$/;

/** Under which names hosts reach this one; null: the setting is not set. Throws CulvertError `CONFIG_INVALID`. */
export function advertisedNames(advertise: readonly string[] | null): readonly string[] {
  for (const name of advertise ?? []) if (isIP(name) === 0 && !hostName.test(name)) throw notAName(name);
  return advertise ?? ['localhost', hostname()];
}

function notAName(name: string): CulvertError {
  return new CulvertError({
    code: 'CONFIG_INVALID',
    message: `--advertise: "${name}" is neither a host name nor an address`,
    hint: 'write it as controller.example.net or 198.18.0.10, without a port',
  });
}

/** Every name that a certificate of the controller's API carries. */
export function apiNamesOf(advertise: readonly string[] | null): readonly string[] {
  return [...new Set([...advertisedNames(advertise), 'localhost', hostname(), '127.0.0.1', '::1'])];
}

/** Every name that a certificate of one of the controller's servers carries. */
export function serverNamesOf(advertise: readonly string[] | null): readonly string[] {
  return [...apiNamesOf(advertise), embeddedNatsName];
}
