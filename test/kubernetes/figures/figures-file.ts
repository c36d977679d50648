import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { z } from 'zod';
import { markdownTable } from '../../docs/markdown-table.js';
import { type FigureName, figureTexts } from './figure-names.js';

/** What `npm run test:kubernetes -- --write-figures` has seen last, for the page of Kubernetes. Below the root of the clone. */
const file = 'test/kubernetes/figures/figures.json';

const names = Object.keys(figureTexts) as FigureName[];
const schema = z.strictObject({
  /** Of Kubernetes, such as `1.37.2`, and of the machine. */
  conditions: z.string(),
  figures: z.partialRecord(z.enum(names), z.number()),
});
type Figures = z.infer<typeof schema>;

function read(): Figures {
  return schema.parse(JSON.parse(readFileSync(file, 'utf8')));
}

/** Takes the figures of a run over: what the run has not measured stays. `recorded`: what `recordFigure` wrote. */
export function takeFigures(recorded: string, versions: readonly string[]): void {
  const lines = recorded.split('\n').filter((line) => line !== '');
  const fresh = lines.map((line) => JSON.parse(line) as { readonly name: FigureName; readonly value: number });
  const before = existsSync(file) ? read().figures : {};
  const merged = { ...before, ...Object.fromEntries(fresh.map(({ name, value }) => [name, value])) };
  const figures = Object.fromEntries(names.flatMap((name) => (name in merged ? [[name, merged[name]]] : [])));
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), Linux ${release().split('-')[0] ?? ''}`;
  const conditions = `${versions.join(', ')}; both nodes on one machine of ${machine}`;
  writeFileSync(file, `${JSON.stringify(schema.parse({ conditions, figures }), null, 2)}\n`);
}

/** The table of the documents. */
export function renderFigures(): string {
  const { figures, conditions } = read();
  const rows = names.flatMap((name) => {
    const { [name]: value } = figures;
    const [title, text] = figureTexts[name];
    return value === undefined ? [] : [[title, text(value)]];
  });
  return `${markdownTable(['what', 'seen'], rows)}\n\n${conditions}.`;
}
