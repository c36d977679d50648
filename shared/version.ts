import { readFileSync } from 'node:fs';

/** The version of this build, from the package.json next to the compiled tree. */
export const version: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
