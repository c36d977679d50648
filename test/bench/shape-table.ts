import { aligned } from './aligned.js';
import { bytesText } from './figure-text.js';
import type { RuleShape } from './rule-shapes.js';
import { measureShape, type ShapeGrowth, type ShapeTimes } from './shape-times.js';

export type MeasuredShape = {
  readonly name: string;
  readonly times: readonly ShapeTimes[];
  readonly growth: ShapeGrowth;
};

export function measureShapes(shapes: readonly RuleShape[]): MeasuredShape[] {
  return shapes.map((shape) => ({ name: shape.name, ...measureShape(shape) }));
}

/** One row for each shape: figures of its largest size, and the exponents of growth with the text. */
export function shapeTable(shapes: readonly MeasuredShape[]): string[] {
  if (shapes.length === 0) return [];
  const head = ['n', 'shape', 'text', 'snapshot', '^', 'compile', '^', 'lint', '^', 'prepare', 'p99', 'cold p99'];
  const rows = shapes.flatMap(({ name, times, growth }) => {
    const largest = times.at(-1);
    if (largest === undefined) return [];
    const { size, textBytes, snapshotBytes, compileMs, lintMs, prepareMs, p99Us, coldP99Us } = largest;
    return [
      [
        String(size),
        name,
        bytesText(textBytes),
        bytesText(snapshotBytes),
        exponentText(growth.bytes),
        `${compileMs.toFixed(0)} ms`,
        exponentText(growth.compile),
        `${lintMs.toFixed(0)} ms`,
        exponentText(growth.lint),
        `${prepareMs.toFixed(0)} ms`,
        `${p99Us.toFixed(2)} µs`,
        `${coldP99Us.toFixed(0)} µs`,
      ],
    ];
  });
  const method = '^: exponent of growth with the text when the size doubles, 1 is linear; –: too short to tell';
  return ['rules of one shape, at the largest of three sizes', ...aligned([head, ...rows]), method, ''];
}

function exponentText(exponent: number | null): string {
  return exponent === null ? '–' : exponent.toFixed(2);
}
