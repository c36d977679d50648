import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { LeakScope } from '../lab/leak-check.js';
import { testRunVariable } from '../lab/test-processes.js';

/**
 * Everything that the tests start inherits these two variables, so that what they leave can be told from other things. A run
 * inside another keeps that one's.
 */
export function openScope(hasLabs: boolean, isInside: boolean): LeakScope {
  const outer = isInside ? process.env[testRunVariable] : undefined;
  const testRun = outer ?? randomBytes(4).toString('hex');
  const tempDir = outer === undefined ? path.join(tmpdir(), `culvert-test-${testRun}`) : tmpdir();
  // The user of an agent passes through it.
  if (outer === undefined) mkdirSync(tempDir, { mode: 0o711 });
  process.env[testRunVariable] = testRun;
  process.env['TMPDIR'] = tempDir;
  const ci = process.env['CI'] ?? '';
  return { testRun, tempDir, hasLabs, isStrict: ci !== '' && ci !== 'false' && ci !== '0' };
}
