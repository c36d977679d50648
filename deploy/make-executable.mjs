import { chmodSync, readFileSync } from 'node:fs';

/** Part of `npm run build`: the compiler writes its output without the mode that a symbolic link to a program needs. */
const { bin } = JSON.parse(readFileSync('package.json', 'utf8'));
for (const file of Object.values(bin)) chmodSync(file, 0o755);
