import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';

const require = createRequire(import.meta.url);

/** The YAML library, loaded on first use because loading takes longer than most commands. */
export function lazyYaml(): typeof Yaml {
  return require('yaml') as typeof Yaml;
}
