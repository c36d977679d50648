import assert from 'node:assert/strict';
import { isPageKey } from '../../../shared/wire/registry-leaf.js';
import { decodeRegistryPage, pageDigest } from '../../../shared/wire/registry-page.js';
import { openRegistryRoot, registryRootKey } from '../../../shared/wire/registry-root.js';

type Stored = { readonly key: string; readonly value: Uint8Array };

/** What the bucket of the registry holds, taken apart. Fails when its root does not prove just the pages that are there. */
export function publishedRegistry(
  stored: readonly Stored[],
  publicKeysPem: readonly string[],
): { readonly listed: ReadonlyMap<string, number>; readonly entries: readonly Stored[] } {
  const sealedRoot = stored.find(({ key }) => key === registryRootKey) ?? assert.fail('the registry has no root');
  const root = openRegistryRoot({ bytes: sealedRoot.value, publicKeysPem });
  const pages = new Map(stored.filter(({ key }) => isPageKey(key)).map(({ key, value }) => [key, value]));
  assert.deepEqual([...pages.keys()].sort(), root.pages.map(({ key }) => key).sort(), 'just the pages of the root');
  const listed = new Map<string, number>();
  for (const page of root.pages) {
    const bytes = pages.get(page.key) ?? assert.fail(page.key);
    assert.equal(pageDigest(bytes), page.digest);
    for (const [key, sequence] of decodeRegistryPage({ bytes, leaf: page }).entries) listed.set(key, sequence);
  }
  return { listed, entries: stored.filter(({ key }) => key !== registryRootKey && !isPageKey(key)) };
}
