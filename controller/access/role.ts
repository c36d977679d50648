import { CulvertError } from '../../shared/errors.js';

/** In ascending order: each role includes the ones before it. */
export const roles = ['viewer', 'editor', 'admin'] as const;
/**
 * `viewer`: may read everything. `editor`: may also change resources. `admin`: may also create join tokens and manage
 * users.
 */
export type Role = (typeof roles)[number];

/** The authenticated sender of a request. */
export type Principal = { readonly name: string; readonly role: Role };

/** Throws CulvertError `FORBIDDEN`, which names the missing role. */
export function requireRole(principal: Principal, needed: Role): void {
  if (roles.indexOf(principal.role) >= roles.indexOf(needed)) return;
  throw new CulvertError({
    code: 'FORBIDDEN',
    message: `${principal.name} has the role ${principal.role}, but this needs ${needed}`,
    hint: `ask an administrator for a context file with the role ${needed}: culvert user create NAME --role ${needed}`,
  });
}
