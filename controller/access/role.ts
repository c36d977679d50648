import { CulvertError } from '../../shared/errors.js';

/** From the least to the most: each may do what those before it may. */
export const roles = ['viewer', 'editor', 'admin'] as const;
/**
 * `viewer`: every question. `editor`: also change what is applied. `admin`: also let hosts join (join tokens) and say who
 * may use the API.
 */
export type Role = (typeof roles)[number];

/** Who a request comes from. */
export type Principal = { readonly name: string; readonly role: Role };

/** Throws CulvertError `FORBIDDEN` that names what is missing. */
export function requireRole(principal: Principal, needed: Role): void {
  if (roles.indexOf(principal.role) >= roles.indexOf(needed)) return;
  throw new CulvertError({
    code: 'FORBIDDEN',
    message: `${principal.name} has the role ${principal.role}, and this needs ${needed}`,
    hint: `ask an administrator for a context file with the role ${needed}: culvert user create NAME --role ${needed}`,
  });
}
