import { readFileSync } from 'node:fs';
import path from 'node:path';

const directory = path.resolve(import.meta.dirname, '../../../test/kubernetes/manifests');

/** The text of a file of `test/kubernetes/manifests/`, named without its ending. `values` stand for `${NAME}` in it. */
export function manifest(name: string, values: Readonly<Record<string, string>> = {}): string {
  const text = readFileSync(path.join(directory, `${name}.yaml`), 'utf8');
  return text.replaceAll(/\$\{([A-Z_]+)\}/g, (_, key: string) => {
    const value = values[key];
    if (value === undefined) throw new Error(`${name}.yaml wants a value for ${key}`);
    return value;
  });
}
