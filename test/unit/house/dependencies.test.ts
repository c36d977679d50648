import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { findDependencyProblems, readDependencies, type Dependencies } from '../../house/dependencies.js';

const sound: Dependencies = {
  declared: ['yaml', 'prettier'],
  locked: {
    'node_modules/yaml': { version: '2.9.1', license: 'ISC', integrity: 'sha512-a' },
    'node_modules/prettier': {
      version: '3.0.0',
      license: '(BSD-3-Clause OR GPL-2.0)',
      integrity: 'sha512-b',
      dev: true,
    },
  },
  reasoned: ['yaml', 'prettier'],
};

describe('the packages that Culvert needs', () => {
  it('have reasons, checksums and allowed licences', () => {
    const dependencies = readDependencies(path.resolve(import.meta.dirname, '../../../..'));
    assert.ok(dependencies.declared.length > 15 && Object.keys(dependencies.locked).length > 100);
    assert.deepEqual(findDependencyProblems(dependencies), []);
  });

  it('are refused without a reason, a place in the lock file, a checksum or an allowed licence', () => {
    assert.deepEqual(findDependencyProblems(sound), []);
    const yaml = { version: '2.9.1', license: 'ISC', integrity: 'sha512-a' };
    const cases: readonly (readonly [Partial<Dependencies>, string])[] = [
      [{ reasoned: ['yaml'] }, 'prettier has no reason in ARCHITECTURE.md'],
      [{ reasoned: ['yaml', 'prettier', 'left-pad'] }, 'left-pad has a reason but is no dependency'],
      [{ locked: { 'node_modules/yaml': yaml } }, 'prettier is not locked'],
      [withYaml({ version: '2.9.1', license: 'ISC' }), 'yaml 2.9.1 is locked without a checksum'],
      [withYaml({ ...yaml, license: 'GPL-3.0' }), 'yaml 2.9.1 has the licence "GPL-3.0", which is not allowed'],
      [withYaml({ version: '2.9.1', integrity: 'x' }), 'yaml 2.9.1 has the licence "", which is not allowed'],
      [
        { locked: { ...sound.locked, 'node_modules/a/node_modules/@b/c': { ...yaml, license: 'MIT AND GPL-3.0' } } },
        '@b/c 2.9.1 has the licence "MIT AND GPL-3.0", which is not allowed',
      ],
    ];
    for (const [change, problem] of cases) {
      assert.deepEqual(findDependencyProblems({ ...sound, ...change }), [`dependencies: ${problem}`]);
    }
  });
});

function withYaml(yaml: Dependencies['locked'][string]): Partial<Dependencies> {
  return { locked: { ...sound.locked, 'node_modules/yaml': yaml } };
}
