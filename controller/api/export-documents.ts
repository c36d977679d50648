import { setImmediate } from 'node:timers/promises';
import { stringify } from 'yaml';
import { kindNames } from '../resources/kinds/resource.js';
import type { StoredResource } from '../inventory/stored-resource.js';

/** Documents to write before yielding to other requests; they take a few milliseconds. */
const slice = 20;
/** Cached texts: thousands of documents take seconds to write, and most are the same at the next export. */
const written = new WeakMap<StoredResource, string>();

/** All documents as YAML, sorted by kind, namespace and name, so that equal sets give equal text. */
export async function exportDocuments(documents: readonly StoredResource[]): Promise<string> {
  const stored = [...documents].sort(byKindAndKey);
  const texts: string[] = [];
  for (const [index, one] of stored.entries()) {
    texts.push(textOf(one));
    if (index % slice === slice - 1) await setImmediate();
  }
  return texts.join('---\n');
}

function textOf(stored: StoredResource): string {
  const known = written.get(stored);
  if (known !== undefined) return known;
  const text = stringify(stored.resource, { lineWidth: 0 });
  written.set(stored, text);
  return text;
}

function byKindAndKey(a: StoredResource, b: StoredResource): number {
  const byKind = kindNames.indexOf(a.resource.kind) - kindNames.indexOf(b.resource.kind);
  if (byKind !== 0) return byKind;
  return a.key < b.key ? -1 : 1;
}
