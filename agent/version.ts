import { readFileSync } from 'node:fs';

/** The version of this build, from the package that it is part of. */
export function agentVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}
