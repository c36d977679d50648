import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProgram, personalPath, programPath } from '../../../shared/program-path.js';

const ofSystem = '/usr/sbin:/sbin:/usr/bin:/bin';

test('a daemon looks where its PATH says, then in the directories of the system, and never in the working directory', () => {
  assert.equal(programPath('/opt/bin:/usr/bin'), `/opt/bin:/usr/bin:${ofSystem}`);
  for (const path of ['', ':', '.', 'bin::./x', ':bin']) assert.equal(programPath(path), ofSystem, path);
  assert.equal(programPath('bin:/opt/bin:'), `/opt/bin:${ofSystem}`);
});

test('a command looks for programs of its user where the shell of the user does, and then where most are', () => {
  assert.equal(personalPath('bin:/usr/bin'), `bin:/usr/bin:/usr/local/sbin:/usr/local/bin:${ofSystem}`);
  assert.equal(personalPath(), `/usr/local/sbin:/usr/local/bin:${ofSystem}`);
});

test('a program is found without PATH, and a directory or a file that cannot be run is none', () => {
  assert.match(findProgram('sh') ?? '', /\/sh$/);
  for (const name of ['', '.', '../../etc/passwd', 'no-such-program']) assert.equal(findProgram(name), null, name);
});
