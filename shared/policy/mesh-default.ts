import type { RuleRef } from './connection.js';

/** The default of the mesh as a rule that can decide. */
export const meshDefaultRef: RuleRef = Object.freeze({ kind: 'Mesh', name: 'default' });
