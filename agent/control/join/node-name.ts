import { hostname } from 'node:os';
import { CulvertError } from '../../../shared/errors.js';
import { nodeName } from '../../../shared/wire/requests.js';

/** The name of this host in the mesh: the setting, or the host's own name. Throws CulvertError `NODE_NAME`. */
export function resolveNodeName(setting: string | null): string {
  const name = setting ?? hostname().toLowerCase();
  if (nodeName.safeParse(name).success) return name;
  throw new CulvertError({
    code: 'NODE_NAME',
    message: `"${name}" cannot be the name of a node`,
    hint: 'give --node a name of lower-case letters, digits, "-" and ".", such as host-a',
  });
}
