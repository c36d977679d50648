import { http2Engine } from '../support/tunnel/tunnel-http2-engine.js';
import { leanEngine } from '../support/tunnel/tunnel-lean-engine.js';
import { TestCa } from '../support/tunnel/tunnel-certificates.js';
import { engineCases, timeEngine, type EngineTime } from './engine-times.js';

/**
 * `node dist/test/bench/engines-command.js [case] [rounds]`: compares the tunnel engines in turns, so that a busy machine
 * affects both equally. Compares CPU time; the ratio is of the medians.
 */
async function compareEngines(only: string | undefined, rounds: number): Promise<void> {
  const ca = await TestCa.create();
  for (const engineCase of engineCases) {
    if (only !== undefined && !new RegExp(only).test(engineCase.id)) continue;
    const node: EngineTime[] = [];
    const lean: EngineTime[] = [];
    for (let round = 0; round <= rounds; round++) {
      const times = [await timeEngine(http2Engine, engineCase, ca), await timeEngine(leanEngine, engineCase, ca)];
      // The first round warms the compiler up.
      if (round === 0) continue;
      node.push(times[0]!);
      lean.push(times[1]!);
    }
    const rates = [node, lean].map((times) => ({
      cpu: median(times.map(({ units, cpuMs }) => (1000 * units) / cpuMs)),
      wall: median(times.map(({ units, wallMs }) => (1000 * units) / wallMs)),
    }));
    const [byNode, byLean] = rates;
    const text = [
      engineCase.id.padEnd(14),
      `per CPU second: node ${byNode!.cpu.toFixed(0)}, lean ${byLean!.cpu.toFixed(0)} ${engineCase.unit},`,
      `ratio ${(byLean!.cpu / byNode!.cpu).toFixed(2)};`,
      `per second: node ${byNode!.wall.toFixed(0)}, lean ${byLean!.wall.toFixed(0)},`,
      `ratio ${(byLean!.wall / byNode!.wall).toFixed(2)}`,
    ];
    console.log(text.join(' '));
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

await compareEngines(process.argv[2], Number(process.argv[3] ?? 5));
