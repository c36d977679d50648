import path from 'node:path';
import { auditPackages } from './audit-packages.js';

/**
 * `npm run audit`, a part of the gate: ends with 1 when a production package has a known vulnerability of severity high or
 * critical. A gate that the registry does not answer says so and passes.
 */
const result = await auditPackages({ directory: path.resolve(import.meta.dirname, '../../..') });
if (result.kind === 'unanswered') {
  console.error(`audit: not checked, the registry does not answer: ${result.why}`);
} else {
  const { grave, other } = result;
  for (const line of [...grave, ...other]) console.error(`audit: ${line}`);
  if (grave.length + other.length === 0) console.error('audit: no production package has a known vulnerability');
  process.exitCode = grave.length === 0 ? 0 : 1;
}
