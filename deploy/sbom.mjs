import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/**
 * `npm run sbom`: writes to stdout the bill of materials of what is installed, as CycloneDX JSON: every production package of
 * the lock file with version, checksum and licence. npm makes it, but names the product after the folder of the clone.
 */
const root = fileURLToPath(new URL('..', import.meta.url));
const { name } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const args = ['sbom', '--sbom-format=cyclonedx', '--sbom-type=application', '--omit=dev', '--package-lock-only'];
const bill = JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 }));
bill.metadata.component.name = name;
process.stdout.write(`${JSON.stringify(bill, null, 2)}\n`);
