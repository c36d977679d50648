import type { Requirement } from '../lab/declared-programs.js';

/** What no package of Debian brings as it has to be, so the user installs it. */
export const userPrograms: readonly Requirement[] = [{ command: 'go', packages: [], why: 'builds Kubernetes' }];
