import { hostname } from 'node:os';
import { CulvertError } from '../../../shared/errors.js';
import { parseNodeName, type NodeName } from '../../../shared/routing/names.js';

/** The name of this host in the mesh: the setting, or else the host name. Throws CulvertError `NODE_NAME`. */
export function resolveNodeName(setting: string | null): NodeName {
  const text = setting ?? hostname().toLowerCase();
  const name = parseNodeName(text);
  if (name !== undefined) return name;
  throw new CulvertError({
    code: 'NODE_NAME',
    message: `"${text}" is not a valid node name`,
    hint: 'set --node to a name of lower-case letters, digits, "-" and ".", such as host-a',
  });
}
