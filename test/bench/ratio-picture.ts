import { figureText } from './figure-text.js';
import { logScale, type LogScale } from './log-scale.js';
import { type CaseSummary, medianOf, type PathSummary } from './summary.js';

const width = 880;
const left = 236;
const right = 650;
const top = 78;
const rowHeight = 34;
/** Shapes of the comparators, in the order in which they first appear. */
const shapes = ['square', 'diamond', 'triangle', 'cross', 'ring'] as const;
type Shape = (typeof shapes)[number] | 'bar' | 'disc';

/**
 * Draws each path's result in each case as a multiple of the best comparator with mutual TLS: one row per case, and further
 * right is better. SVG with colours for light and dark pages, without scripts or fonts.
 */
export function ratioPicture(summaries: readonly CaseSummary[]): string {
  const rows = summaries.map(goodnessRow);
  const scale = logScale(
    rows.flatMap(({ marks }) => marks.flatMap(({ at, least, most }) => [at, least, most])),
    left,
    right,
  );
  const names = [...new Map(rows.flatMap(({ marks }) => marks.map((mark) => [mark.path, mark.title] as const)))];
  const shapeOf = shapesFor(names.map(([path]) => path));
  const bottom = top + rows.length * rowHeight;
  const height = bottom + 70;
  const label = `Culvert beside other proxies: ${rows.map(({ title, measured, text }) => `${title} ${measured} ${text}`.trim()).join('; ')}`;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escape(label)}">`,
    style,
    textAt(16, 28, 'Culvert beside pairs of other proxies', 'title'),
    textAt(16, 48, 'multiples of the best comparator with mutual TLS in the same run; right is better', 'muted'),
    textAt(width - 92, 66, 'measured', 'muted end'),
    textAt(width - 16, 66, 'ratio, goal', 'muted end'),
    ...grid(scale, bottom),
    ...rows.flatMap((row, at) => drawRow(row, scale, shapeOf, top + at * rowHeight + rowHeight / 2)),
    ...legend(names, shapeOf, bottom + 50),
    '</svg>',
  ].join('\n')}\n`;
}

type Mark = {
  readonly path: string;
  readonly title: string;
  readonly kind: PathSummary['kind'];
  readonly at: number;
  readonly least: number;
  readonly most: number;
};
type Row = {
  readonly title: string;
  readonly marks: readonly Mark[];
  /** Where the goal lies, when it is a multiple of the best comparator. */
  readonly goal: number | null;
  /** Culvert's figure. */
  readonly measured: string;
  /** Its ratio to the best comparator; empty without one. */
  readonly text: string;
  readonly met: boolean | null;
};

function goodnessRow(summary: CaseSummary): Row {
  const { title, unit, paths, best, better, conditions, met } = summary;
  const reference = medianOf(
    paths.find(({ path }) => path === best),
    'value',
  );
  const goodness = (value: number): number =>
    reference === null ? Number.NaN : better === 'higher' ? value / reference : reference / value;
  const marks = paths.flatMap(({ path, title, kind, figures }) => {
    const value = figures['value'];
    if (value === undefined) return [];
    const ends = [goodness(value.min), goodness(value.max)];
    const mark = { path, title, kind, at: goodness(value.median), least: Math.min(...ends), most: Math.max(...ends) };
    return [mark.at, mark.least, mark.most].every((place) => Number.isFinite(place) && place > 0) ? [mark] : [];
  });
  const condition = conditions.find(({ condition: { figure, of } }) => figure === 'value' && of === 'best')?.condition;
  const ours = marks.find(({ kind }) => kind === 'culvert');
  const measured = medianOf(
    paths.find(({ kind }) => kind === 'culvert'),
    'value',
  );
  return {
    title,
    marks,
    goal: condition === undefined ? null : better === 'higher' ? condition.limit : 1 / condition.limit,
    measured: measured === null ? 'failed' : figureText('value', measured, unit),
    text: ours === undefined ? '' : `${ours.at.toFixed(2)}×`,
    met,
  };
}

function drawRow(row: Row, scale: LogScale, shapeOf: (path: string) => Shape, y: number): string[] {
  const marks = row.marks.toSorted((a, b) => Number(a.kind === 'culvert') - Number(b.kind === 'culvert'));
  const goalX = row.goal === null ? null : scale.place(row.goal);
  const verdict = row.met === null ? '' : row.met ? ' ✓' : ' ✗';
  const tone = row.met === null ? 'muted' : row.met ? 'good' : 'bad';
  return [
    textAt(left - 18, y + 4, row.title, 'end'),
    `<line class="lane" x1="${left}" x2="${right}" y1="${y}" y2="${y}"/>`,
    ...(goalX === null ? [] : [`<path class="goal" d="M${goalX} ${y - 11}v22"/>`]),
    ...marks.flatMap((mark) => {
      const x = scale.place(mark.at);
      const [from, to] = [scale.place(mark.least), scale.place(mark.most)];
      const isOurs = mark.kind === 'culvert';
      const spread = isOurs && to - from > 1 ? [`<path class="spread" d="M${from} ${y}H${to}"/>`] : [];
      return [...spread, drawShape(shapeOf(mark.path), x, y)];
    }),
    textAt(width - 92, y + 4, row.measured, 'end muted'),
    textAt(width - 34, y + 4, row.text, 'end strong'),
    ...(verdict === '' ? [] : [textAt(width - 16, y + 4, verdict.trim(), `end strong ${tone}`)]),
  ];
}

function grid(scale: LogScale, bottom: number): string[] {
  return scale.ticks.flatMap((tick) => {
    const x = scale.place(tick);
    return [
      `<line class="${tick === 1 ? 'one' : 'grid'}" x1="${x}" x2="${x}" y1="${top - 4}" y2="${bottom}"/>`,
      textAt(x, bottom + 18, tick >= 1 ? `${tick}×` : `1/${Math.round(1 / tick)}`, 'middle muted'),
    ];
  });
}

function legend(names: readonly (readonly [string, string])[], shapeOf: (path: string) => Shape, y: number): string[] {
  let x = 22;
  const items = names.flatMap(([path, title]) => {
    const at = x;
    x += 36 + title.length * 7.2;
    return [drawShape(shapeOf(path), at, y - 4), textAt(at + 12, y, title, '')];
  });
  return [...items, `<path class="goal" d="M${x} ${y - 13}v18"/>`, textAt(x + 10, y, 'goal', '')];
}

function shapesFor(paths: readonly string[]): (path: string) => Shape {
  const others = paths.filter((path) => path !== 'culvert' && path !== 'direct');
  return (path) => {
    if (path === 'culvert') return 'disc';
    return path === 'direct' ? 'bar' : (shapes[others.indexOf(path) % shapes.length] ?? 'ring');
  };
}

function drawShape(shape: Shape, x: number, y: number): string {
  const outlines: Readonly<Record<Exclude<Shape, 'disc' | 'ring'>, string>> = {
    square: `M${x - 4.5} ${y - 4.5}h9v9h-9z`,
    diamond: `M${x} ${y - 6}l6 6l-6 6l-6 -6z`,
    triangle: `M${x} ${y - 5.5}l5.5 10h-11z`,
    cross: `M${x - 4.5} ${y - 4.5}l9 9m0 -9l-9 9`,
    bar: `M${x} ${y - 7}v14`,
  };
  if (shape === 'disc') return `<circle class="ours" cx="${x}" cy="${y}" r="6.5"/>`;
  if (shape === 'ring') return `<circle class="other" cx="${x}" cy="${y}" r="5"/>`;
  return `<path class="${shape === 'bar' ? 'direct' : 'other'}" d="${outlines[shape]}"/>`;
}

function textAt(x: number, y: number, text: string, classes: string): string {
  return `<text${classes === '' ? '' : ` class="${classes}"`} x="${x}" y="${y}">${escape(text)}</text>`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}

// Gives each colour twice: some SVG renderers do not support variables and would not draw a line without a colour.
const style = `<style>
svg{--text:#1f2328;--muted:#59636e;--grid:#d8dee4;--ours:#0969da;--other:#6e7781;--good:#1a7f37;--bad:#cf222e;--goal:#bf8700;--page:#ffffff}
@media (prefers-color-scheme:dark){svg{--text:#e6edf3;--muted:#9198a1;--grid:#30363d;--ours:#4493f8;--other:#9198a1;--good:#3fb950;--bad:#f85149;--goal:#d29922;--page:#0d1117}}
text{font:13px -apple-system,"Segoe UI","Noto Sans",Helvetica,Arial,sans-serif;fill:#1f2328;fill:var(--text)}
.title{font-size:17px;font-weight:600}.strong{font-weight:600}.muted{fill:#59636e;fill:var(--muted);font-size:12px}
.end{text-anchor:end}.middle{text-anchor:middle}.good{fill:#1a7f37;fill:var(--good)}.bad{fill:#cf222e;fill:var(--bad)}
.grid,.lane{stroke:#d8dee4;stroke:var(--grid);stroke-width:1}.one{stroke:#59636e;stroke:var(--muted);stroke-width:1.5}
.goal{stroke:#bf8700;stroke:var(--goal);stroke-width:3;fill:none}.spread{stroke:#0969da;stroke:var(--ours);stroke-width:3;opacity:.45}
.ours{fill:#0969da;fill:var(--ours);stroke:#ffffff;stroke:var(--page);stroke-width:1.5}.other{fill:#ffffff;fill:var(--page);stroke:#6e7781;stroke:var(--other);stroke-width:1.6}
.direct{stroke:#6e7781;stroke:var(--other);stroke-width:2;stroke-dasharray:2 2;fill:none}
</style>`;
