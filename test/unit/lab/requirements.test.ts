import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  findCommand,
  missingError,
  missingRequirements,
  packagesOf,
  requireProgram,
  requirements,
} from '../../lab/requirements.js';

describe('the table of requirements', () => {
  it('names each program once, with a package and a reason', () => {
    const commands = requirements.map(({ command }) => command);
    assert.equal(new Set(commands).size, commands.length);
    for (const { command, packages, why } of requirements) {
      assert.match(command, /^[a-z0-9-]+$/);
      assert.ok(packages.length > 0 && packages.every((name) => /^[a-z0-9][a-z0-9+.-]+$/.test(name)), command);
      assert.ok(why.length > 0, command);
    }
  });

  it('finds a program of /usr/sbin although the PATH leaves that out', () => {
    const before = process.env['PATH'];
    try {
      process.env['PATH'] = '/nonexistent';
      assert.match(findCommand('sh') ?? '', /\/sh$/);
      assert.ok(process.env['PATH'].split(':').includes('/usr/sbin'));
      assert.equal(findCommand('no-such-program'), null);
    } finally {
      process.env['PATH'] = before;
    }
  });

  it('says in one error what is missing, why, and the command that brings it', () => {
    const [first] = requirements;
    assert.ok(first !== undefined);
    const error = missingError([first, { command: 'x', packages: [...first.packages, 'y'], why: 'for z' }]);
    assert.equal(error.code, 'REQUIREMENT_MISSING');
    assert.match(error.message, /x \(for z\)/);
    assert.equal(error.hint, `apt-get install -y --no-install-recommends ${first.packages.join(' ')} y`);
  });

  it('looks only for the programs that are asked for', () => {
    assert.deepEqual(missingRequirements(['nothing-of-the-table']), []);
    const before = process.env['PATH'];
    try {
      assert.deepEqual(missingRequirements(['bash']), []);
    } finally {
      process.env['PATH'] = before;
    }
  });

  it('names a program that is not there, also one of which no table speaks', () => {
    assert.throws(() => requireProgram('no-such-program'), { code: 'REQUIREMENT_MISSING', message: /no-such-program/ });
    assert.throws(() => requireProgram('/nonexistent/program'), { message: /\/nonexistent\/program/ });
    assert.doesNotThrow(() => requireProgram('sh'));
    assert.doesNotThrow(() => requireProgram(process.execPath));
  });

  it('asks for each package once', () => {
    const missing = requirements.filter(({ packages }) => packages.includes('iptables'));
    assert.equal(missing.length, 2);
    assert.deepEqual(packagesOf(missing), ['iptables']);
  });
});
