import { hostname } from 'node:os';
import { CulvertError } from '../../../shared/errors.js';
import { parseNodeName, type NodeName } from '../../../shared/routing/names.js';

/** The name of this host in the mesh: the setting, or the host's own name. Throws CulvertError `NODE_NAME`. */
export function resolveNodeName(setting: string | null): NodeName {
  const text = setting ?? hostname().toLowerCase();
  const name = parseNodeName(text);
  if (name !== undefined) return name;
  throw new CulvertError({
    code: 'NODE_NAME',
    message: `"${text}" cannot be the name of a node`,
    hint: 'give --node a name of lower-case letters, digits, "-" and ".", such as host-a',
  });
}
