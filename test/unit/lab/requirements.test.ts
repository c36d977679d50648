import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { captureTools } from '../../../agent/capture/firewall/command-runner.js';
import { declaredPrograms, requirementsOf, type RunKind, usesOfRun } from '../../lab/declared-programs.js';
import { findCommand, findInstalled, missingError, packagesOf, requireProgram } from '../../lab/requirements.js';

const runs = Object.keys(usesOfRun) as RunKind[];

/** Runs a step with another PATH. */
function withPath<T>(searchPath: string, step: () => T): T {
  const before = process.env['PATH'];
  try {
    process.env['PATH'] = searchPath;
    return step();
  } finally {
    process.env['PATH'] = before;
  }
}

describe('the table of programs', () => {
  it('names each program once, with a package and a reason for each use', () => {
    const commands = declaredPrograms.map(({ command }) => command);
    assert.equal(new Set(commands).size, commands.length);
    for (const { command, packages, uses } of declaredPrograms) {
      assert.match(command, /^[a-z0-9_-]+$/);
      assert.ok(packages.length > 0 && packages.every((name) => /^[a-z0-9][a-z0-9+.-]+$/.test(name)), command);
      assert.ok(Object.values(uses).length > 0 && Object.values(uses).every((why) => why.length > 0), command);
    }
  });

  it('gives each run what it starts itself, and what runs in its lab', () => {
    for (const run of runs) {
      const commands = requirementsOf(run).map(({ command }) => command);
      assert.ok(commands.includes('ip'), run);
      assert.equal(commands.includes('nats-server'), run !== 'lab', run);
      assert.equal(commands.includes('iperf3'), run === 'bench', run);
      assert.equal(commands.includes('nft'), run === 'tests' || run === 'kubernetes', run);
    }
  });

  it('has every program of capture, with the package that the agent names', () => {
    for (const [command, debianPackage] of Object.entries(captureTools)) {
      const declared = declaredPrograms.find((program) => program.command === command);
      assert.ok(declared?.uses.agent !== undefined, command);
      assert.deepEqual(declared.packages, [debianPackage]);
    }
  });

  it('finds a program of /usr/sbin although the PATH leaves that out', () => {
    withPath('/nonexistent', () => {
      assert.match(findInstalled('sh') ?? '', /\/sh$/);
      assert.equal(findCommand('sh'), null);
      assert.equal(findInstalled('no-such-program'), null);
    });
  });

  it('says in one error what is missing, why, and the command that brings it', () => {
    const [first] = requirementsOf('tests');
    assert.ok(first !== undefined);
    const error = missingError([first, { command: 'x', packages: [...first.packages, 'y'], why: 'for z' }]);
    assert.equal(error.code, 'REQUIREMENT_MISSING');
    assert.match(error.message, /x \(for z\)/);
    assert.equal(error.hint, `apt-get install -y --no-install-recommends ${first.packages.join(' ')} y`);
  });

  it('names a program that is not in the PATH: one that no table names, and one that another use declares', () => {
    assert.throws(() => requireProgram('no-such-program'), { code: 'REQUIREMENT_MISSING', message: /no-such-program/ });
    assert.throws(() => requireProgram('/nonexistent/program'), { message: /\/nonexistent\/program/ });
    assert.doesNotThrow(() => requireProgram(process.execPath));
    withPath('/nonexistent', () => {
      assert.throws(() => requireProgram('sh'), {
        message: /^sh is installed, and declared only for: agent, lab, build\.$/,
      });
    });
  });

  it('asks for each package once', () => {
    const missing = requirementsOf('demo').filter(({ packages }) => packages.includes('iptables'));
    assert.equal(missing.length, 6);
    assert.deepEqual(packagesOf(missing), ['iptables']);
  });
});
