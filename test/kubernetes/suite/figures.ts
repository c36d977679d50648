import { appendFileSync } from 'node:fs';
import process from 'node:process';
import type { FigureName } from '../figures/figure-names.js';
import { targetVariables } from '../target.js';

/** Gives a figure that a test has seen to the runner, which writes it into the documents where that is asked for. */
export function recordFigure(name: FigureName, value: number): void {
  const { [targetVariables.figures]: file } = process.env;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ name, value })}\n`);
}
