import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';

/**
 * In a mount namespace with an own /var/lib and /run/netns, so that nothing of this machine is touched. `steps` can use `put`
 * (a result of the runtime), `namespace` (binds a network namespace to a name), `until` and `sandboxes`.
 */
function inOwnMounts(steps: string, { isHelped }: { readonly isHelped: boolean }): unknown {
  const agent = new URL('../../../../agent/', import.meta.url).href;
  const script = `
    import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
    import { execFileSync } from 'node:child_process';
    import { setTimeout as delay } from 'node:timers/promises';
    import { PodSandboxes } from '${agent}control/workloads/pod-sandboxes.js';
    import { startHelper } from '${agent}native/helper.js';
    execFileSync('sh', ['-ec', 'mount -t tmpfs tmpfs /var/lib; mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns']);
    const directory = '/var/lib/cni/results';
    const helper = ${isHelped} ? startHelper() : null;
    let changes = 0;
    const log = { warn: () => undefined };
    const sandboxes = new PodSandboxes({ log, onChange: () => changes++ });
    const put = (name, uid, netns) => {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      const text = JSON.stringify({ kind: 'cniCacheV1', cniArgs: [['K8S_POD_UID', uid]], netns }, null, 1);
      writeFileSync(directory + '/' + name, text, { mode: 0o600 });
    };
    const namespace = (name) => {
      writeFileSync('/run/netns/' + name, '');
      execFileSync('unshare', ['--net', 'mount', '--bind', '/proc/self/ns/net', '/run/netns/' + name]);
    };
    const until = async (isTrue) => {
      for (let tries = 0; tries < 400 && !isTrue(); tries++) await delay(25);
      if (!isTrue()) throw new Error('it did not come: ' + isTrue);
    };
    const result = await (async () => { ${steps} })();
    sandboxes.close();
    helper?.kill('SIGKILL');
    process.stdout.write(JSON.stringify(result));
  `;
  const argv = ['--mount', '--propagation', 'private', process.execPath, '--input-type=module', '--eval', script];
  const { status, stdout, stderr } = spawnSync('unshare', argv, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

for (const isHelped of [true, false]) {
  describe(isHelped ? 'through the privileged helper' : 'as root', () => {
    test('the sandbox of a pod is found by its UID, also when it comes later', () => {
      const found = inOwnMounts(
        `
        namespace('cni-a');
        put('net-a-eth0', 'u-a', '/var/run/netns/cni-a');
        put('net-b-eth0', 'u-b', '/run/netns/cni-b');
        put('net-c-eth0', 'u-c', '/run/netns/cni-a');
        sandboxes.follow(new Set(['u-b', 'u-c']));
        await until(() => sandboxes.pathOf('u-c') !== null);
        const before = [sandboxes.pathOf('u-b'), sandboxes.pathOf('u-c')];
        namespace('cni-b');
        await until(() => sandboxes.pathOf('u-b') !== null);
        return [before, sandboxes.pathOf('u-b'), changes];
        `,
        { isHelped },
      );
      assert.deepEqual(found, [[null, '/run/netns/cni-a'], '/run/netns/cni-b', 2]);
    });

    test('a directory that cannot be read is told, until it can; one that is not there yet is none', () => {
      const found = inOwnMounts(
        `
        await sandboxes.readFirst();
        const absent = sandboxes.problem;
        mkdirSync('/var/lib/cni');
        writeFileSync(directory, '');
        await sandboxes.readFirst();
        const { problem } = sandboxes;
        rmSync(directory);
        await sandboxes.readFirst();
        return [absent, problem, sandboxes.problem];
        `,
        { isHelped },
      ) as readonly (string | null)[];
      assert.deepEqual([found[0], found[2]], [null, null]);
      assert.match(
        found[1] ?? '',
        /^the sandboxes of pods cannot be read in \/var\/lib\/cni\/results: .*ot a directory/,
      );
    });

    test('an agent that starts again knows the sandboxes before it follows a pod', () => {
      const found = inOwnMounts(
        `
        namespace('cni-a');
        put('net-a-eth0', 'u-a', '/run/netns/cni-a');
        await sandboxes.readFirst();
        const known = sandboxes.pathOf('u-a');
        sandboxes.follow(new Set(['u-a']));
        await delay(200);
        return [known, changes];
        `,
        { isHelped },
      );
      assert.deepEqual(found, ['/run/netns/cni-a', 0]);
    });

    test('what is no plain file of JSON is left out, and the others count', () => {
      const found = inOwnMounts(
        `
        namespace('cni-a');
        mkdirSync(directory, { recursive: true });
        mkdirSync(directory + '/a-directory');
        symlinkSync('/etc/shadow', directory + '/a-link');
        writeFileSync(directory + '/a-device', '');
        execFileSync('mount', ['--bind', '/dev/zero', directory + '/a-device']);
        writeFileSync(directory + '/damaged', '{"kind":');
        writeFileSync(directory + '/empty', '');
        writeFileSync(directory + '/large', Buffer.alloc(1024 * 1024, 0x20));
        put('last', 'u-a', '/run/netns/cni-a');
        sandboxes.follow(new Set(['u-a']));
        await until(() => sandboxes.pathOf('u-a') !== null);
        return [sandboxes.pathOf('u-a'), sandboxes.problem];
        `,
        { isHelped },
      );
      assert.deepEqual(found, ['/run/netns/cni-a', null]);
    });
  });
}
