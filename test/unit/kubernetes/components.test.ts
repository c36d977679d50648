import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { componentsOf, usualMinor, versionOf } from '../../kubernetes/programs/components.js';

const minors = readdirSync('test/kubernetes/modules/kubernetes');

test('every component has a version, and hashes for it', () => {
  for (const minor of minors) {
    for (const component of componentsOf(minor)) {
      if (component.module === undefined) continue;
      const version = versionOf(component);
      assert.match(version, /^v\d+\.\d+\.\d+$/, component.name);
      const hashes = readFileSync(path.join(component.directory, 'go.sum'), 'utf8').split('\n');
      assert.ok(
        hashes.some((line) => line.startsWith(`${component.module} ${version} h1:`)),
        component.name,
      );
    }
  }
  assert.ok(minors.includes(usualMinor));
});

test('every module of the repository of Kubernetes is of the release that its folder is named after', () => {
  for (const minor of minors) {
    const kubernetes = componentsOf(minor).find(({ name }) => name === 'kubernetes');
    assert.ok(kubernetes !== undefined && existsSync(kubernetes.directory));
    const version = versionOf(kubernetes);
    assert.equal(version.slice(1).split('.').slice(0, 2).join('.'), minor);
    const text = readFileSync(path.join(kubernetes.directory, 'go.mod'), 'utf8');
    const replaced = [...text.matchAll(/^\t(\S+) => (\S+) (\S+)$/gm)];
    assert.ok(replaced.length > 25, `${replaced.length} modules`);
    for (const [, from, to, at] of replaced) assert.deepEqual([to, at], [from, version.replace(/^v1/, 'v0')]);
  }
});

test('a minor version that is not there is refused with those that are', () => {
  assert.throws(() => componentsOf('1.2'), { code: 'KUBERNETES_MINOR', message: new RegExp(`1\\.2 .*${usualMinor}`) });
});
