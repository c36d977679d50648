import { CulvertError } from '../../shared/errors.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import { describeScope, outsideOf, type DocumentChange, type Scope, type Situation } from './scope.js';

/** In ascending order: each role includes the ones before it. */
export const roles = ['viewer', 'editor', 'admin'] as const;
/**
 * `viewer`: may read everything. `editor`: may also change resources. `admin`: may also create join tokens and manage
 * users.
 */
export type Role = (typeof roles)[number];

/** The authenticated sender of a request. */
export type Principal = {
  readonly name: string;
  readonly role: Role;
  /** Which documents an editor may change. */
  readonly scope: Scope;
};

/** Throws CulvertError `FORBIDDEN`, which names the missing role. */
export function requireRole(principal: Principal, needed: Role): void {
  if (roles.indexOf(principal.role) >= roles.indexOf(needed)) return;
  throw new CulvertError({
    code: 'FORBIDDEN',
    message: `${principal.name} has the role ${principal.role}, but this needs ${needed}`,
    hint: `ask an administrator for a context file with the role ${needed}: culvert user create NAME --role ${needed}`,
  });
}

/** Documents that a refusal names. */
const maxNamed = 3;

/** Throws CulvertError `FORBIDDEN`, which names the documents that this principal may not change and why. */
export function requireScope(
  { name, scope }: Principal,
  changes: readonly DocumentChange[],
  situation: Situation,
): void {
  const refused: string[] = [];
  for (const change of changes) {
    const why = outsideOf(scope, change, situation);
    const resource = change.before ?? change.after;
    if (why !== null && resource !== null) refused.push(`${formatResourceId(resourceId(resource))}: ${why}`);
  }
  if (refused.length === 0) return;
  const more = refused.length > maxNamed ? `, and ${refused.length - maxNamed} more` : '';
  throw new CulvertError({
    code: 'FORBIDDEN',
    message: `${name} may not change ${refused.slice(0, maxNamed).join(', ')}${more}; nothing was changed`,
    hint: `${name} may change ${describeScope(scope)}; ask an administrator for more`,
  });
}
