import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';

const require = createRequire(import.meta.url);

/** The YAML library, loaded when it is first needed: that takes longer than most commands. */
export function lazyYaml(): typeof Yaml {
  return require('yaml') as typeof Yaml;
}
